"""The coordinator's decisions: no clock, no chance, no input or output."""
