"""A fleet on one machine, for evaluation, development and tests."""
