"""S3, and stores that speak its protocol, through boto3."""
