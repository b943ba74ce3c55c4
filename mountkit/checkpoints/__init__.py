"""Checkpoints in a store: what needs no mount."""
