"""The Trainer: the one place that imports transformers."""
