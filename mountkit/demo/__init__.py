"""``mountkit demo``: train into a bucket on this machine, and check every claim."""
