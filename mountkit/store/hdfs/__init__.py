"""HDFS, through WebHDFS and the standard library's HTTP client."""
