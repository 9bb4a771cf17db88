"""All SQL of the coordinator: relational state, the append-only changes, the tables in memory."""
