"""The hot path: asyncio protocols and httptools between clients, engines and peers."""
