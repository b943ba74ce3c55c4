"""A mount, its place, and the directory below it."""
