"""The client side: authentication, limits, placement, error bodies."""
