"""vLLM as a child process, or somebody else's server: started, watched, ended without a trace."""
