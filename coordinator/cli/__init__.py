"""``edgeforge``: what operators and developers type; it talks to a coordinator."""
