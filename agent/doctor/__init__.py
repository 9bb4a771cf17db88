"""``edgeforge-agent doctor``: checks this host, with a next step for each failed check."""
