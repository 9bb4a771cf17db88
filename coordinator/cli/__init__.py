"""The ``edgeforge`` command of operators and developers: a client of a coordinator."""
