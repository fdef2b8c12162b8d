"""Every error a user of lithophone can meet.

    LithophoneError
    ├── AudioError         the recording cannot be read, or holds nothing to transcribe
    ├── OptionError        an unknown or impossible task, language, format, decoder or number
    ├── ConfigError        a configuration with an unknown key, a missing key, or sizes that do not fit
    ├── CheckpointError    files or tensors are missing, unexpected or of the wrong shape
    ├── DownloadError      a model is neither on disk nor reachable
    ├── PromptError        audio slots and audio embeddings do not match, or the prompt is too long
    └── ManifestError      a line of a manifest cannot be used

The message says what was seen, what is allowed and what to do next.
"""

from __future__ import annotations


class LithophoneError(Exception):
    """Base of all errors raised on purpose: catch this to catch them all."""


class AudioError(LithophoneError, ValueError):
    """The recording cannot be read, or holds nothing to transcribe."""


class OptionError(LithophoneError, ValueError):
    """An option has a value that is not allowed, or does not go with another one."""


class ConfigError(LithophoneError, ValueError):
    """A configuration has unknown or missing keys, or sizes that do not fit together."""


class CheckpointError(LithophoneError, ValueError):
    """A checkpoint's files or tensors are missing, unexpected, or of the wrong shape."""


class DownloadError(LithophoneError, OSError):
    """A model is neither on disk nor reachable."""


class PromptError(LithophoneError, ValueError):
    """Prompt and audio do not fit together, or do not fit into the model's positions."""


class ManifestError(LithophoneError, ValueError):
    """A line of a manifest is not JSON, lacks a key, or names a file that is not there."""
