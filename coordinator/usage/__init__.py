"""Usage and money in bulk: a database of their own beside the coordinator's."""
