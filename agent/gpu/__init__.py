"""Readers of accelerators. Vendors' libraries run only in a child process."""
