"""What a host and an operator's machine do alike to get their first certificate."""
