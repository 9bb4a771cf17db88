"""Model files: import, checks, and the folder that agents pull them from."""
