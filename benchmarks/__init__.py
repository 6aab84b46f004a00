"""Speed and memory, beside peers that do the same work in the same run."""
