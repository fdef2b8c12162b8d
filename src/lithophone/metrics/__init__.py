"""Measures: counts that add, normalisers with names, word and character error rates."""
