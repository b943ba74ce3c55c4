"""What a bucket is: objects, their checksums, and the stores that hold them."""
