"""The Hugging Face hub's protocol over the registry, and the hub that models are imported from."""
