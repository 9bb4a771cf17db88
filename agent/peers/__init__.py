"""Agent to agent: warm mutual-TLS connections, probes, and the peer port."""
