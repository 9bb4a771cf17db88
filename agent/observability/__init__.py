"""Status, readiness and metrics of this agent, gathered from its parts and served to this host."""
