"""The store on SQLite. Another backend has the same files in a folder beside this one."""
