"""A conformer initialised from Whisper's encoder, and its distillation."""
