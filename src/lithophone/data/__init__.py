"""Data: manifests, public corpora, annotations, subtitles."""
