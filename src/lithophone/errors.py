"""Errors raised on purpose. Messages state the value seen, what is allowed, and the next step."""

from __future__ import annotations


class LithophoneError(Exception):
    """Base of all errors raised on purpose."""


class AudioError(LithophoneError, ValueError):
    """The recording cannot be read, or has no samples."""


class OptionError(LithophoneError, ValueError):
    """An unknown or impossible task, language, format, decoder or number, or options that exclude each other."""


class ConfigError(LithophoneError, ValueError):
    """A configuration has unknown or missing keys, or inconsistent sizes."""


class CheckpointError(LithophoneError, ValueError):
    """Files or tensors of a checkpoint are missing, unexpected, or of the wrong shape."""


class DownloadError(LithophoneError, OSError):
    """A model is neither on disk nor reachable."""


class PromptError(LithophoneError, ValueError):
    """Audio slots and embeddings differ in number, or the prompt exceeds the model's positions."""


class ManifestError(LithophoneError, ValueError):
    """A manifest line is not JSON, lacks a key, or names a missing file."""
