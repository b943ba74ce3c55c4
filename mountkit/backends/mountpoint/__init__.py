"""The Mountpoint for S3 backend."""
