"""What long work tells on stderr: bars on a terminal, lines of a log elsewhere."""
