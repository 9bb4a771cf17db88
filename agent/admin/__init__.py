"""What this host's operator may ask and order, over a Unix socket."""
