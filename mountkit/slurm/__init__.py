"""A run as a job of Slurm: the file for ``sbatch``, and what the cluster says of its limits."""
