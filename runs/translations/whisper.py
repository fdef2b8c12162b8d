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

from lithophone.audio.reader import load_audio
from lithophone.data.manifest import Entry, read_entries, write_entries

SURE = -1.25
"""Least mean log-probability of a token."""
SURE_JAPANESE = -1.45
LENGTHS = (0.5, 1.8)
"""Characters of a translation, as a share of those of the transcript; not from Japanese."""
LEAST_CHARACTERS = 13
"""Of a transcript that is not Japanese: shorter ones say little."""
PAD_SAMPLES = 24_000
ROWS = 12
"""Clips translated together."""


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
    """At most so many entries with transcripts that are not short."""
    usable = [entry for entry in entries if len(entry.text) >= LEAST_CHARACTERS or entry.lang == "ja"]
    return [usable[i] for i in np.random.default_rng(7).permutation(len(usable))[:clips]]


def translated(entries: Sequence[Entry], lang: str, folder: Path) -> Iterator[tuple[Entry, str, float]]:
    """Entries with translations and their mean log-probabilities, the shortest first."""
    import ctranslate2
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    from lithophone.train.transplant.whisper_weights import fetch_whisper

    whisper = WhisperModel(str(fetch_whisper(folder)), compute_type="int8")
    tokenizer = Tokenizer(whisper.hf_tokenizer, True, task="translate", language=lang)
    prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    hop, extractor = whisper.feature_extractor.hop_length, whisper.feature_extractor
    by_length = sorted(entries, key=lambda entry: entry.duration_s or 0.0)
    for first in range(0, len(by_length), ROWS):
        some = by_length[first : first + ROWS]
        clips = [load_audio(entry.audio, start_s=entry.start_s, end_s=entry.end_s) for entry in some]
        # an even number of frames: the encoder halves them
        length = -(-(max(map(len, clips)) + PAD_SAMPLES) // (2 * hop)) * 2 * hop
        rows = [extractor(np.pad(clip, (0, length - len(clip))), padding=0) for clip in clips]
        frames = np.ascontiguousarray(np.stack([row[:, : length // hop] for row in rows]))
        states = whisper.model.encode(ctranslate2.StorageView.from_array(frames))
        replies = whisper.model.generate(
            states, [prompt] * len(some), beam_size=1, repetition_penalty=1.1, max_length=80, return_scores=True
        )
        for entry, reply in zip(some, replies, strict=True):
            tokens = [token for token in reply.sequences_ids[0] if token < tokenizer.eot]
            yield entry, tokenizer.decode(tokens).strip(), reply.scores[0]


def is_good(entry: Entry, text: str, score: float) -> bool:
    words = text.split()
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    if not words or max(triples.values(), default=0) > 1:
        return False
    if entry.lang == "ja":
        return score >= SURE_JAPANESE
    low, high = LENGTHS
    return score >= SURE and low < len(text) / len(entry.text) < high


if __name__ == "__main__":
    main()
