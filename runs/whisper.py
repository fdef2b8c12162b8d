"""What whisper-base hears in the clips of a manifest: the peer that stands beside our figures in the card.

    python runs/whisper.py data/measured/dev-de.jsonl --out data/measured/whisper/dev-de.jsonl
    python runs/whisper.py data/measured/de-en.jsonl --to en --out data/measured/whisper/de-en.jsonl

Greedy, int8, by faster-whisper, with the language given. Whisper translates into English only. A run that was stopped
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lithophone.data.manifest import read_entries


def main() -> None:
    from faster_whisper import WhisperModel

    from lithophone.train.transplant.whisper_weights import fetch_whisper

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--to", choices=["en"], help="translate")
    parser.add_argument("--model", type=Path, default=Path("data/whisper-base"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.exists() else []
    done = {json.loads(line)["audio"] for line in lines}
    model = WhisperModel(str(fetch_whisper(args.model)), compute_type="int8", cpu_threads=args.threads)
    task = "translate" if args.to else "transcribe"
    with args.out.open("a", encoding="utf-8") as file:
        for entry in read_entries(args.manifest):
            if entry.name in done:
                continue
            segments, _ = model.transcribe(str(entry.audio), language=entry.lang, task=task, beam_size=1)
            heard = "".join(segment.text for segment in segments).strip()
            file.write(json.dumps({"audio": entry.name, "hyp": heard}, ensure_ascii=False) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
