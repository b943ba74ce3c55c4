"""What the kernel tells and does: processes, the mount table, FUSE."""
