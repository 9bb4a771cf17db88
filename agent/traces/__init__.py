"""Traces of finished requests: kept on this host within bounds, and exported if asked."""
