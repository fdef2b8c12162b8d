"""A byte-level BPE tokenizer from sentences: as written, in raw form, and Japanese in kana too.

    lithophone train tokenizer --text en=en.txt fr=fr.txt ja=ja.txt --lines 30000 --out runs/tokenizer

Special tokens end the vocabulary, `<|audio|>` last. With `--cut` the tokens are the most used ones of another
byte-level BPE, such as Whisper's, for a language model from Whisper's decoder: a prompt begins with
`<|start_of_role|><|end_of_role|><|audio|>`, and ends with the tokens that Whisper's prompts have in all languages.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lithophone.ctc.characters import raw_text
from lithophone.languages import LANGUAGES
from lithophone.text.prompts import KEYWORDS, PUNCTUATED, RAW
from lithophone.train.data.sentences import read_lines
from lithophone.train.run.arguments import recipe_parser
from lithophone.train.shares import parse_shares
from lithophone.train.targets.ctc_transcripts import ctc_transcript
from lithophone.train.transplant.vocabulary import cut_vocabulary, token_shares

SPECIAL = ("<|pad|>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>")
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{%- elif message['role'] == 'user' %}{{ 'USER: ' + message['content'] + '\\n ASSISTANT:' }}"
    "{%- elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + '<|end_of_text|>' }}"
    "{%- endif %}{%- endfor %}"
)
WHISPER_PROMPT = ("<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>")
CUT_TEMPLATE = "<|start_of_role|><|end_of_role|>" + CHAT_TEMPLATE.replace("'USER: ' + ", "").replace(
    "ASSISTANT:", f"ASSISTANT:{''.join(WHISPER_PROMPT)}"
)
"""Tokens in front of audio cannot attend to it, and disturb a language model from Whisper's decoder."""

PROMPT_REPEATS = 2000
"""Copies of the instructions in the training text: most of their words become single tokens."""


def sentences(lines: dict[str, list[str]]) -> Iterator[str]:
    for _ in range(PROMPT_REPEATS):
        yield from ("USER:", f"{RAW}\n ASSISTANT:", PUNCTUATED, f"{KEYWORDS} Keywords:", "translate the speech to")
        yield "[Transcription] [Translation]"
    for name in LANGUAGES.values():
        yield from [f" {name}"] * PROMPT_REPEATS
    for lang, texts in lines.items():
        for line in texts:
            yield from (line, raw_text(line))
            if lang == "ja":
                yield ctc_transcript(line, lang)


def cut(path: Path, lines: dict[str, list[str]], vocab: int, shares: Mapping[str, float]) -> Tokenizer:
    """The tokens of a `tokenizer.json` that the texts and prompts use most, each language by its share."""
    core = Tokenizer.from_file(str(path))
    texts = {lang: [f" {text}" for line in some for text in (line, raw_text(line))] for lang, some in lines.items()}
    texts |= {f"prompts {n}": [text, f" {text}"] for n, text in enumerate(dict.fromkeys(sentences({})))}
    special = [*(token for token in WHISPER_PROMPT if core.token_to_id(token) is not None), *SPECIAL]
    tokenizer = cut_vocabulary(core, token_shares(core, texts, shares), vocab - len(special))
    tokenizer.add_special_tokens(special)
    return tokenizer


def build(lines: dict[str, list[str]], vocab: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(lines), trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--text", nargs="+", required=True, help="LANG=PATH, one sentence a line")
    parser.add_argument("--lines", type=int, help="most lines per language, drawn at random")
    parser.add_argument("--vocab", type=int, default=1024, help="number of tokens")
    parser.add_argument("--cut", type=Path, help="tokenizer.json of another byte-level BPE whose tokens are used")
    parser.add_argument("--shares", nargs="*", default=[], help="LANG=WEIGHT of a language in --cut, 1 for others")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args(argv)

    args.out.mkdir(parents=True, exist_ok=True)
    lines = read_lines(args.text)
    for texts in lines.values():
        random.Random(args.seed).shuffle(texts)
    drawn = {lang: texts[: args.lines] for lang, texts in lines.items()}
    tokenizer = (
        cut(args.cut, drawn, args.vocab, parse_shares(args.shares, "LANG=WEIGHT, such as en=3"))
        if args.cut
        else build(drawn, args.vocab)
    )
    tokenizer.save(str(args.out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|end_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
    }
    (args.out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (args.out / "chat_template.jinja").write_text(CUT_TEMPLATE if args.cut else CHAT_TEMPLATE)
    print(f"{tokenizer.get_vocab_size()} tokens in {args.out}")


if __name__ == "__main__":
    main()
