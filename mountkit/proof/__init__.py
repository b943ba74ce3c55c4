"""Prove that what was written through a mount is in its store."""
