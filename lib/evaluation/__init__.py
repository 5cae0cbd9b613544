"""What a run is worth, computed from its prediction table and from nothing else."""
