"""Studies in batch: plan, check, run, report."""
