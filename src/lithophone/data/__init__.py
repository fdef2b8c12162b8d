"""Data: manifests, public corpora, annotation and subtitle files."""
