"""The models: tensors in, tensors out. Knows no audio files, no text, no prompts."""
