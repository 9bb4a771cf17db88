"""Agent to agent: warm mutual-TLS connections, probes, the peer port."""
