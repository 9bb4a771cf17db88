"""Traces of finished requests: kept on this host within limits, and exported if configured."""
