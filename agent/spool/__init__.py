"""Records of usage on this host's disk: written before an answer ends, shipped in order."""
