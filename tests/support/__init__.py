"""What several test modules share: rigs, stores, fakes, and what they assert."""
