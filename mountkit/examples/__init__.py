"""Training scripts to copy: each is a file of its own, resumes by itself, and downloads nothing."""
