"""Decoders: embeddings of a prompt -> token ids of a reply. No text, no files, no seconds."""
