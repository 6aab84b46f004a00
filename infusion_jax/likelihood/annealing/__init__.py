"""Annealed importance sampling in noise space."""
