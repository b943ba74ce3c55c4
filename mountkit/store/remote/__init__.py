"""Any remote that rclone knows, asked by rclone itself."""
