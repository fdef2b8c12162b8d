"""Decoders: embeddings of a prompt -> token ids of a reply. No tokenizer, no text, no files, no seconds."""
