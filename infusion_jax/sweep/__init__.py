"""Sweeps: many runs, trained and compared as tables."""
