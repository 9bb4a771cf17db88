"""The HTTP listener: health, metrics, the public price card."""
