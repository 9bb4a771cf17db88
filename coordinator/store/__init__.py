"""All SQL of the coordinator: relational state, the change log, the tables in memory."""
