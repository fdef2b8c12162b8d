"""Model name -> folder: a path, bundled, cached, or downloaded. The only module that downloads.

huggingface_hub is imported where it is needed: that takes a third of the time of `lithophone --help`.
"""

from __future__ import annotations

import re
from pathlib import Path

from lithophone.errors import CheckpointError, DownloadError
from lithophone.model.checkpoint_files import read_json
from lithophone.model.config import MODEL_TYPES

ASSETS = Path(__file__).parent / "assets"

DEFAULT_MODEL = "lithophone-tiny"
"""Bundled, works without a network."""

KNOWN = {
    "ibm-granite/granite-speech-5.0-2b": "as 4.1-2b, with language hints and 2,000 keywords",
    "ibm-granite/granite-speech-4.1-2b": "six languages, translation, punctuation, keywords",
    "ibm-granite/granite-speech-4.1-2b-plus": "five languages, speakers or word times, keywords",
    "ibm-granite/granite-speech-4.1-2b-nar": "five languages, non-autoregressive (CTC editing)",
    "ibm-granite/granite-4.0-1b-speech": "six languages, translation, keywords; the smallest",
    "ibm-granite/granite-speech-3.3-2b": "translation; answers text prompts too",
    "ibm-granite/granite-speech-3.3-8b": "as 3.3-2b, larger",
}
"""Published checkpoints of the family, and their abilities."""

BUNDLED = {DEFAULT_MODEL: "six languages, punctuation, keywords"}
"""Bundled models, and their abilities."""

PATTERNS = [
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "chat_template.json", "model.safetensors", "model-*-of-*.safetensors",
    "model.safetensors.index.json", "out_llm.safetensors", "adapter_config.json", "adapter_model.safetensors",
]  # fmt: skip
"""Files of a checkpoint to download."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
"""`owner/name` by the hub's rules."""


def resolve(name_or_folder: str | Path = DEFAULT_MODEL) -> Path:
    """Folder of a model: a path, a bundled name, or `owner/name` on the hub.

    Downloads are cached; `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` apply. Raises DownloadError.
    """
    if not isinstance(name_or_folder, str | Path):
        raise DownloadError(f"model is {name_or_folder!r:.100}: expected a folder or a name; {_advice()}")
    name = str(name_or_folder)
    if _is_folder(name):
        return Path(name_or_folder)
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    if isinstance(name_or_folder, Path) or HUB_NAME.fullmatch(name) is None:
        raise DownloadError(f"{name!r:.200} is neither a folder nor a model's name; {_advice()}")
    return _snapshot(name)


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).is_dir()
    except PermissionError as error:
        raise DownloadError(f"{name!r:.200} cannot be looked at: {error.strerror}; {_advice()}") from error
    except (OSError, ValueError):  # a name that no folder can have
        return False


def bundled_models() -> dict[str, Path]:
    """Bundled models: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(ASSETS.glob("*/config.json"))}


def cached_models() -> dict[str, Path]:
    """Cached models of the family: name -> newest snapshot."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    newest = {repo.repo_id: max(repo.revisions, key=lambda r: r.last_modified) for repo in repos if repo.revisions}
    folders = {name: Path(revision.snapshot_path) for name, revision in sorted(newest.items())}
    return {name: folder for name, folder in folders.items() if _is_ours(folder)}


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except Exception as error:  # the HTTP client has errors of its own
        raise DownloadError(f"model {name!r} cannot be downloaded: {_cause(error)}; {_advice(name)}") from error


def _is_ours(folder: Path) -> bool:
    try:
        return read_json(folder / "config.json").get("model_type") in MODEL_TYPES
    except CheckpointError:
        return False


def _cause(error: Exception) -> str:
    if _is_offline():
        return "it is not in the cache, and HF_HUB_OFFLINE is set; unset it to download"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .;:")


def _advice(failed: str = "") -> str:
    """The models there are, without the one that failed; the bundled ones alone where nothing can be downloaded."""
    bundled = f"without a network there is {', '.join(bundled_models()) or DEFAULT_MODEL}"
    others = "" if _is_offline() else ", ".join(name for name in KNOWN if name != failed)
    return f"{bundled}, with one {others}" if others else bundled


def _is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
