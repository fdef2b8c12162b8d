"""A byte-level BPE tokenizer in the family's form, from sentences: cased as they stand, and raw as transcripts are.

    python recipes/tokenizer.py --text ../shared/text/en.txt --vocab 1024 --out checkpoints/tokenizer

The special tokens close the vocabulary in the family's order; `<|audio|>` is the last one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lithophone.labels import raw_text
from lithophone.prompts import KEYWORDS, LANGUAGES, PUNCTUATED, RAW

SPECIAL = ("<|pad|>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>")
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{%- elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + '\\n ASSISTANT:' }}"
    "{%- elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + '<|end_of_text|>' }}"
    "{%- endif %}{%- endfor %}"
)


PROMPT_REPEATS = 2000
"""Every prompt carries an instruction: weighed like this, most of its words become single tokens."""


def sentences(paths: list[Path]) -> Iterator[str]:
    for _ in range(PROMPT_REPEATS):
        yield from ("USER:", f"{RAW}\n ASSISTANT:", PUNCTUATED, f"{KEYWORDS} Keywords:", "translate the speech to")
    for name in LANGUAGES.values():
        yield from [f" {name}"] * PROMPT_REPEATS
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield line.strip()
            yield raw_text(line)


def build(paths: list[Path], vocab: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(paths), trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = build(args.text, args.vocab)
    tokenizer.save(str(args.out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|end_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
    }
    (args.out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (args.out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    print(f"{tokenizer.get_vocab_size()} tokens in {args.out}")


if __name__ == "__main__":
    main()
