"""What both programs do with this host's files and users: whole files, owners, permissions."""
