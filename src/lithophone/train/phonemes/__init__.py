"""Spelling one language with the letters of another."""
