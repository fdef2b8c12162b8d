"""The models: tensors in, tensors out. Imports no audio, text or prompts."""
