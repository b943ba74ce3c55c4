"""Run a command on a mount, and exit with the truth."""
