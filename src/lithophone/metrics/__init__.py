"""Counts that add, named normalisers, and the rates and scores made of them; of texts, not audio."""
