"""The live fleet: sessions, pushes, what is known of each node, its orders and its placement."""
