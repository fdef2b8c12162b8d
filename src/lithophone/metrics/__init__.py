"""Measures: counts that add, normalisers with names, and the rates and scores made of them; knows texts, not audio."""
