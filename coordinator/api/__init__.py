"""HTTP for machines and the public: health, metrics, the price card."""
