"""Files, checkpoints and where results come from."""
