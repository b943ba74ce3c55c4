"""Azure Blob Storage: az://, abfs:// and adl://."""
