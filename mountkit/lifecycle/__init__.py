"""A mount from the first check to its unmount."""
