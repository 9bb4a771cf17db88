"""Readers of accelerators: a vendor's code runs in a child process and nowhere else."""
