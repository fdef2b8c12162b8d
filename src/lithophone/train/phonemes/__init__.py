"""Pseudo-labels: one language in the orthography of another."""
