"""The name of a model -> a folder on disk: a folder of your own, a bundled model, the cache, or a download.

The only module that downloads. Knows files, not what is in them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import scan_cache_dir, snapshot_download
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.utils.tqdm import tqdm

from lithophone.errors import DownloadError

ASSETS = Path(__file__).parent / "assets"

DEFAULT_MODEL = "lithophone-tiny"
"""Comes with the package, so that the first recording needs no network."""

KNOWN = {
    "ibm-granite/granite-speech-4.1-2b": "transcribes and translates six languages, punctuation, keywords",
    "ibm-granite/granite-speech-4.1-2b-plus": "transcribes five languages with speakers or word times, keywords",
    "ibm-granite/granite-4.0-1b-speech": "transcribes and translates six languages, keywords; the smallest",
    "ibm-granite/granite-speech-3.3-2b": "transcribes and translates; answers text prompts as Granite 3.3 does",
    "ibm-granite/granite-speech-3.3-8b": "as 3.3-2b, larger",
}
"""Published checkpoints of the family that can be run, and what they do."""

PATTERNS = [
    "config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "chat_template.json", "model.safetensors", "model-*-of-*.safetensors",
    "model.safetensors.index.json", "out_llm.safetensors", "adapter_config.json", "adapter_model.safetensors",
]  # fmt: skip
"""The files of a checkpoint that are read; nothing else is downloaded."""

MODEL_TYPES = ("granite_speech", "granite_speech_plus")


class _Silent(tqdm):
    """A progress bar that is never shown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]


def resolve(name_or_folder: str | Path = DEFAULT_MODEL, *, offline: bool = False, progress: bool = True) -> Path:
    """The folder of a model: a path, the name of a bundled model, or `owner/name` on the hub.

    A hub model is downloaded once and found in the cache afterwards; `HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN` count as
    usual. With `offline` nothing is asked of the network. Raises DownloadError where the model is not to be had.
    """
    name = str(name_or_folder)
    if Path(name_or_folder).is_dir():
        return Path(name_or_folder)
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    if isinstance(name_or_folder, Path) or name.count("/") != 1:
        raise DownloadError(f"{name!r} is neither a folder nor a model's name; {_advice()}")
    return _snapshot(name, offline, progress)


def bundled_models() -> dict[str, Path]:
    """Models that come with the package: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(ASSETS.glob("*/config.json"))}


def cached_models() -> dict[str, Path]:
    """Models of the family in the hub's cache: name -> folder of the newest snapshot."""
    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    newest = {repo.repo_id: max(repo.revisions, key=lambda r: r.last_modified) for repo in repos if repo.revisions}
    folders = {name: Path(revision.snapshot_path) for name, revision in sorted(newest.items())}
    return {name: folder for name, folder in folders.items() if _is_ours(folder)}


def _snapshot(name: str, offline: bool, progress: bool) -> Path:
    bar = None if progress else _Silent
    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=offline, tqdm_class=bar))
    except Exception as error:  # the HTTP client below the library has errors of its own, and changes
        where = "is not in the cache" if offline else "cannot be downloaded"
        raise DownloadError(f"model {name!r} {where}: {_first_line(error)}; {_advice()}") from error


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") in MODEL_TYPES
    except (OSError, ValueError, AttributeError):
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _advice() -> str:
    bundled = ", ".join(bundled_models()) or DEFAULT_MODEL
    return f"without a network there is {bundled}, with one {', '.join(KNOWN)}"
