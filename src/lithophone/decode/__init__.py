"""Decoders: prompt embeddings -> token ids. No tokenizer, no text."""
