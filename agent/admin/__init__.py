"""Status, recent requests and drain for this host's operator, over a Unix socket."""
