"""The link to the coordinator: identity, the fleet stream, tables and model files."""
