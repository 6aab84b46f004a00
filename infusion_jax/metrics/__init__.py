"""Measures of samples: Parzen windows, Inception score, nearest neighbours."""
