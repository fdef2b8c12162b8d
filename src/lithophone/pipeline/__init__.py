"""Whole recordings: windows at silences, the transcription loop, stitching."""
