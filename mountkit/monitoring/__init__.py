"""What a mount shows to people and machines: status, health, metrics."""
