"""States of a chain that are not Gaussian: other kinds of data."""
