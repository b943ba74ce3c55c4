"""A directory of this machine that outlives the job: NFS, Lustre, a shared disk."""
