"""Registry, accounts, prices and the routing table that all agents hold."""
