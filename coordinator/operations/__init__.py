"""Use cases: an actor and domain values in, domain values out; authorisation and audit, once."""
