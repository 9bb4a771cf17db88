"""The daemon on every GPU host: serves clients, places requests, runs the engine."""
