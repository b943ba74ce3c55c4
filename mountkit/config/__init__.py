"""Settings: flags, environment, mountkit.toml and defaults."""
