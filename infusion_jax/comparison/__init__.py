"""Infusion and its rivals on one budget, measured by one protocol."""
