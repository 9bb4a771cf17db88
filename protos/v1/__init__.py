"""Wire package ``edgeforge.v1``: committed stubs of the files beside them (``make proto``)."""
