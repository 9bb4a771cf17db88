"""Engines: vLLM as a child process, or an external server; started, probed and ended."""
