"""What is S3's own of the doctor: its rights, regions and credentials."""
