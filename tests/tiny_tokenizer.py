"""A byte-level BPE tokenizer with the family's special tokens, small enough to train in every test run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lithophone.text.tokenizer import Tokenizer

SPECIAL = ("<|pad|>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>")
PAD, END, ROLE, ROLE_END, AUDIO = SPECIAL

BASE_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {{ message['content'] }}\n ASSISTANT:"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
PLUS_TEMPLATE = (
    "{%- for message in messages %}\n"
    "{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)

CORPUS = (
    "can you transcribe the speech into a written format?",
    "transcribe the speech with proper punctuation and capitalization.",
    "translate the speech to French. Keywords: lithophone, granite",
    "hello world, the stone sings and the singer turns to stone",
)


@cache
def _trained(n_text: int) -> str:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=n_text, initial_alphabet=alphabet, show_progress=False, special_tokens=[])
    core.train_from_iterator(CORPUS, trainer)
    core.add_special_tokens(list(SPECIAL))
    return str(core.to_str())


def tiny_tokenizer(chat_template: str | None = BASE_TEMPLATE, n_text: int = 300) -> Tokenizer:
    """`n_text` (at least 256) pieces of text, then the special tokens in the order of `SPECIAL`."""
    settings = {"bos_token": END, "eos_token": END, "pad_token": PAD, "tokenizer_class": "GPT2Tokenizer"}
    return Tokenizer(tokenizers.Tokenizer.from_str(_trained(n_text)), settings, chat_template)


def save_tiny_tokenizer(folder: Path, chat_template: str | None = BASE_TEMPLATE, n_text: int = 300) -> Tokenizer:
    """Write the files by hand, not through the code under test."""
    tokenizer = tiny_tokenizer(chat_template, n_text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_trained(n_text), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.settings), encoding="utf-8")
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    return tokenizer
