"""The rclone backend."""
