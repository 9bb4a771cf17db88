"""A whole fleet on one machine, for trying, for laptops and for tests."""
