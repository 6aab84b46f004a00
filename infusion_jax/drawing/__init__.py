"""Pictures from arrays: tiles, labels, plots."""
