"""Text <-> token ids, and the chat template of a checkpoint.

Reads `tokenizer.json`, `tokenizer_config.json` and the template: `chat_template.jinja`, the key `chat_template` of
`tokenizer_config.json`, or `chat_template.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from lithophone.errors import CheckpointError
from lithophone.files import write_json, write_whole
from lithophone.model.checkpoint_files import is_file, read_json, read_text
from lithophone.text import chat_template

AUDIO_TOKEN = "<|audio|>"
"""One per audio embedding."""

SETTINGS = "tokenizer_config.json"
SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """Byte-level BPE of a checkpoint."""

    def __init__(self, core: tokenizers.Tokenizer, settings: Mapping[str, Any], template: str | None) -> None:
        core.no_truncation()
        core.no_padding()
        self._core = core
        self.settings = dict(settings)
        self.chat_template = template

    @classmethod
    def from_folder(cls, folder: str | Path) -> Tokenizer:
        """Raises CheckpointError if `tokenizer.json` or `tokenizer_config.json` is missing or unreadable."""
        folder = Path(folder)
        settings = read_json(folder / SETTINGS)
        return cls(_read_core(folder / "tokenizer.json"), settings, _read_template(folder, settings))

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Of a `tokenizer.json` alone. Raises CheckpointError if it is missing or unreadable."""
        return cls(_read_core(path), {}, None)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; nothing is added, special tokens in it become their ids."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens, white space unchanged."""
        return str(self._core.decode(list(map(int, ids)), skip_special_tokens=True))

    def id_of(self, token: str) -> int:
        """Id of a token by exact name. Raises CheckpointError."""
        found = self._core.token_to_id(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no token {token!r}; its special tokens: {self.special_tokens}")
        return int(found)

    def __len__(self) -> int:
        return int(self._core.get_vocab_size(with_added_tokens=True))

    @cached_property
    def last_id(self) -> int:
        return max(self._core.get_vocab(with_added_tokens=True).values(), default=-1)

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """Tokens in the vocabulary's spelling (bytes as visible characters), by id."""
        names = (self._core.id_to_token(i) for i in range(len(self)))
        return tuple("" if name is None else name for name in names)

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Special added tokens, by id."""
        added = self._core.get_added_tokens_decoder()
        return tuple(token.content for _, token in sorted(added.items()) if token.special)

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """Text of every id, lower case, without spaces and punctuation, to compare drafts and replies."""
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
        """The conversation by the checkpoint's chat template.

        `messages`: `{"role": "system" | "user" | "assistant", "content": text}`. Raises CheckpointError without a
        template or if it refuses.
        """
        if self.chat_template is None:
            raise CheckpointError("the checkpoint has no chat template: neither a file nor a key in the tokenizer")
        names = {name: self._named_token(name) for name in SPECIAL_NAMES if self._named_token(name)}
        values = {"messages": [dict(message) for message in messages], "add_generation_prompt": add_generation_prompt}
        return chat_template.render(self.chat_template, values | names)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, if any."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._core.save(str(folder / "tokenizer.json"))
        write_json(folder / SETTINGS, {key: v for key, v in self.settings.items() if key != "chat_template"})
        if self.chat_template is not None:
            write_whole(folder / "chat_template.jinja", self.chat_template)

    def _named_token(self, name: str) -> str | None:
        value = self.settings.get(name)
        token = value.get("content") if isinstance(value, Mapping) else value
        if token is not None and not isinstance(token, str):
            raise CheckpointError(f"{SETTINGS}: {name} is {token!r:.100}: expected the text of a token")
        return token

    def _named_id(self, name: str) -> int:
        token = self._named_token(name)
        if token is None:
            raise CheckpointError(f"{SETTINGS} names no {name!r}")
        return self.id_of(token)


def _read_core(path: Path) -> tokenizers.Tokenizer:
    text = read_text(path)
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """`chat_template.jinja` precedes JSON; of named templates, `default` counts."""
    if is_file(folder / "chat_template.jinja"):
        return read_text(folder / "chat_template.jinja")
    found, where = settings.get("chat_template"), SETTINGS
    if found is None and is_file(folder / "chat_template.json"):
        where = "chat_template.json"
        found = read_json(folder / where).get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, Mapping) and entry.get("name") == "default"]
        found = named[-1].get("template") if named else None
    if found is not None and not isinstance(found, str):
        raise CheckpointError(f"{where}: chat_template is a {type(found).__name__}: expected text, or a list of texts")
    return found
