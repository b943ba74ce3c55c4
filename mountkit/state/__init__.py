"""What this machine knows of its mounts."""
