"""Training: state, compiled epochs, the loop around them, checkpoints, metrics."""
