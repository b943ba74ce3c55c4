"""Keep a mount serving: see that it is ill, and mount it again."""
