"""Errors raised on purpose; messages have the value seen, the values allowed, the next step."""

from __future__ import annotations


class LithophoneError(Exception):
    """Base of all errors raised on purpose."""


class AudioError(LithophoneError, ValueError):
    """Recordings that are unreadable or without samples."""


class OptionError(LithophoneError, ValueError):
    """Unknown or impossible tasks, languages, formats, decoders or numbers; options that exclude each other."""


class ConfigError(LithophoneError, ValueError):
    """Configurations with unknown or missing keys, or inconsistent sizes."""


class CheckpointError(LithophoneError, ValueError):
    """Missing, unexpected or misshapen files or tensors of a checkpoint."""


class DownloadError(LithophoneError, OSError):
    """Models neither on disk nor reachable."""


class PromptError(LithophoneError, ValueError):
    """Different numbers of audio slots and embeddings, or prompts beyond the model's positions."""


class ManifestError(LithophoneError, ValueError):
    """Manifest lines that are not JSON, lack a key, or name a missing file."""


class FetchError(LithophoneError, OSError):
    """Recordings at a URL that cannot be fetched."""


class JournalError(LithophoneError, ValueError):
    """Journals of another run or file, in use, or of another version."""


class JournalWriteError(LithophoneError, OSError):
    """Journals on a disk that fails or is full."""


class CancelledError(LithophoneError):
    """The caller cancelled the work."""
