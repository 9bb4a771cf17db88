"""What monitoring reads on this host: life, readiness, numbers."""
