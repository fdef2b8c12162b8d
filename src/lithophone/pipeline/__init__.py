"""Transcription: options -> request; recording -> utterances -> engine -> results -> transcript."""
