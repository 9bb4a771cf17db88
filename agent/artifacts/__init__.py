"""Models on this host's disk: pulled by digest, verified before use, published by rename."""
