"""Translations into English of training clips, by whisper-base itself: the language model begins as its decoder.

    python runs/translations/whisper.py ../shared/speech/train.jsonl --lang fr --clips 1500 \\
        --out data/translations/whisper-fr-en.jsonl

Greedy, int8, by faster-whisper, from audio that is padded by 1.5 s and not to 30 s, which is ten times as fast. Kept
where whisper-base is sure of its tokens, no three words are repeated, and the length is like that of the transcript.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lithophone.data.manifest import Entry, read_entries, write_entries

LEAST_SCORE = {"ja": -1.45}
"""Mean log-probability of a token, by language."""
USUAL_LEAST_SCORE = -1.25
LENGTHS = (0.5, 1.8)
"""Characters of a translation, as a share of those of the transcript; not of Japanese."""
LEAST_CHARACTERS = 13
PAD_SAMPLES = 24_000
ROWS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--lang", required=True)
    parser.add_argument("--clips", type=int, required=True, help="of each manifest, drawn at random")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("data/whisper-base"))
    args = parser.parse_args()

    chosen = [entry for path in args.manifests for entry in drawn(read_entries(path, args.lang), args.clips)]
    kept = [
        replace(entry, translations={"en": text})
        for entry, text, score in translated(chosen, args.lang, args.model)
        if is_good(entry, text, score)
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_entries(args.out, kept)
    print(f"{args.out}: {len(kept)} of {len(chosen)} kept")


def drawn(entries: Sequence[Entry], clips: int) -> list[Entry]:
    long = [entry for entry in entries if len(entry.text) >= LEAST_CHARACTERS or entry.lang == "ja"]
    order = np.random.default_rng(7).permutation(len(long))[:clips]
    return [long[i] for i in order]


def translated(entries: Sequence[Entry], lang: str, folder: Path) -> Iterator[tuple[Entry, str, float]]:
    """Entries with translations and their mean log-probabilities, the shortest first."""
    import ctranslate2
    from faster_whisper import WhisperModel, decode_audio
    from faster_whisper.tokenizer import Tokenizer

    from lithophone.train.transplant.whisper_weights import fetch_whisper

    whisper = WhisperModel(str(fetch_whisper(folder)), compute_type="int8")
    tokenizer = Tokenizer(whisper.hf_tokenizer, True, task="translate", language=lang)
    prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    hop, extractor = whisper.feature_extractor.hop_length, whisper.feature_extractor
    loaded = [(entry, decode_audio(str(entry.audio))) for entry in entries]
    loaded.sort(key=lambda pair: len(pair[1]))
    for first in range(0, len(loaded), ROWS):
        some = loaded[first : first + ROWS]
        # an even number of frames: the encoder halves them
        length = -(-(len(some[-1][1]) + PAD_SAMPLES) // (2 * hop)) * 2 * hop
        rows = [extractor(np.pad(samples, (0, length - len(samples))), padding=0) for _, samples in some]
        frames = np.ascontiguousarray(np.stack([row[:, : length // hop] for row in rows]))
        states = whisper.model.encode(ctranslate2.StorageView.from_array(frames))
        replies = whisper.model.generate(
            states, [prompt] * len(some), beam_size=1, repetition_penalty=1.1, max_length=80, return_scores=True
        )
        for (entry, _), reply in zip(some, replies, strict=True):
            tokens = [token for token in reply.sequences_ids[0] if token < tokenizer.eot]
            yield entry, tokenizer.decode(tokens).strip(), reply.scores[0]


def is_good(entry: Entry, text: str, score: float) -> bool:
    words = text.split()
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    low, high = LENGTHS
    return (
        bool(words)
        and score >= LEAST_SCORE.get(entry.lang, USUAL_LEAST_SCORE)
        and max(triples.values(), default=0) < 2
        and (entry.lang == "ja" or low < len(text) / len(entry.text) < high)
    )


if __name__ == "__main__":
    main()
