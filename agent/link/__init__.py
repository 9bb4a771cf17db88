"""The agent's side of the coordinator: identity, the fleet stream, the tables it brings, blobs."""
