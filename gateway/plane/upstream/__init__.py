"""The exchanges with upstreams, one file per kind. Their errors become ours here and nowhere else."""
