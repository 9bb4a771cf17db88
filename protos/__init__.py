"""The contract: wire messages, and the pure rules that both sides apply to them."""
