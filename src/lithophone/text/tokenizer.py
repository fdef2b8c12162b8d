"""Text to token ids and back, and the chat template of a checkpoint.

Reads `tokenizer.json`, `tokenizer_config.json` and the template: `chat_template.jinja`, the key `chat_template` of
`tokenizer_config.json`, or `chat_template.json`. It knows no task: which words go into a prompt is `text/prompts.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import tokenizers
from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lithophone.errors import CheckpointError

AUDIO_TOKEN = "<|audio|>"
"""Stands in a prompt once per audio embedding."""

TEMPLATE_DATE = datetime(2024, 12, 19)
"""The day a chat template is told it is: the one of training, so that a recording reads the same tomorrow."""

SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """Byte-level BPE of a checkpoint: `from_folder` reads one, `save` writes it back unchanged."""

    def __init__(self, core: tokenizers.Tokenizer, settings: Mapping[str, Any], chat_template: str | None) -> None:
        core.no_truncation()
        core.no_padding()
        self._core = core
        self.settings = dict(settings)
        self.chat_template = chat_template

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Raises CheckpointError where `tokenizer.json` or `tokenizer_config.json` is missing or unreadable."""
        folder = Path(folder)
        settings = read_json(folder / "tokenizer_config.json")
        return cls(_read_core(folder / "tokenizer.json"), settings, _read_template(folder, settings))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; nothing is added in front or behind, special tokens written out in it become their ids."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`, special tokens skipped, white space exactly as generated."""
        return str(self._core.decode([int(i) for i in ids], skip_special_tokens=True))

    def id_of(self, token: str) -> int:
        """Id of one token by its exact name; CheckpointError where the vocabulary has no such token."""
        found = self._core.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {token!r}; its special tokens: {self.special_tokens}")
        return int(found)

    def __len__(self) -> int:
        return int(self._core.get_vocab_size(with_added_tokens=True))

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Every token as the vocabulary writes it (bytes as visible characters), in the order of the ids."""
        names = (self._core.id_to_token(i) for i in range(len(self)))
        return tuple("" if name is None else name for name in names)

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """The added tokens that are marks rather than text, in the order of their ids."""
        added = self._core.get_added_tokens_decoder()
        return tuple(token.content for _, token in sorted(added.items()) if token.special)

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """The text of every id in lower case, without spaces and punctuation: how drafts and replies are compared."""
        texts = self._core.decode_batch([[i] for i in range(len(self))], skip_special_tokens=True)
        return tuple("".join(filter(str.isalnum, text.casefold())) for text in texts)

    @property
    def bos_id(self) -> int:
        return self._named_id("bos_token")

    @property
    def eos_id(self) -> int:
        return self._named_id("eos_token")

    @property
    def pad_id(self) -> int:
        return self._named_id("pad_token")

    @property
    def audio_id(self) -> int:
        return self.id_of(AUDIO_TOKEN)

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the checkpoint's own chat template writes it.

        `messages` are `{"role": "system" | "user" | "assistant", "content": text}`. Raises CheckpointError where there
        is no template or the template refuses.
        """
        if self.chat_template is None:
            raise CheckpointError("the checkpoint has no chat template: neither a file nor a key in the tokenizer")
        names = {name: self._named_token(name) for name in SPECIAL_NAMES if self._named_token(name)}
        try:
            return _compiled(self.chat_template).render(
                messages=list(messages), add_generation_prompt=add_generation_prompt, **names
            )
        except TemplateError as error:
            raise CheckpointError(f"the chat template cannot be rendered: {error}") from error

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and, where there is one, `chat_template.jinja`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._core.save(str(folder / "tokenizer.json"))
        settings = {key: value for key, value in self.settings.items() if key != "chat_template"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if self.chat_template is not None:
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")

    def _named_token(self, name: str) -> str | None:
        value = self.settings.get(name)
        return value.get("content") if isinstance(value, Mapping) else value

    def _named_id(self, name: str) -> int:
        token = self._named_token(name)
        if token is None:
            raise CheckpointError(f"tokenizer_config.json names no {name!r}")
        return self.id_of(token)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint; CheckpointError where it is missing or is no JSON object."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not a JSON object")
    return values


def _read_core(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}: a model cannot be used without its tokenizer")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template file wins over the one inside a JSON file; of several named ones, `default` counts."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if found is None and (folder / "chat_template.json").is_file():
        found = read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return found


@lru_cache(16)
def _compiled(template: str) -> Template:
    """Compiling takes a hundred times as long as rendering."""
    return _environment().from_string(template)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": TEMPLATE_DATE.strftime}
    environment.filters["tojson"] = _to_json
    return environment


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
