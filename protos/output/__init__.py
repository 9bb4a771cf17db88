"""What programs print and log: the two places where text that others wrote is escaped."""
