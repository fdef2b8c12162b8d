"""The card of lithophone-tiny: `card.md` with tables from the logs and `results`. Run from the repository root.

python runs/card.py > src/lithophone/assets/lithophone-tiny/README.md
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent
LIBRISPEECH, COMMON_VOICE = "wer_librispeech_devclean_mp3", "wer_cv_delta_en"
SETS = ("dev-en", "unseen-voices", "demo")
DECODERS = {"as it comes": "", "greedy": "-greedy", "encoder alone (`--decode ctc`)": "-ctc"}
CORPORA = {
    "librispeech_devclean_mp3": "LibriSpeech dev-clean, 10 speakers (MP3, then Opus at 20 kbit/s)",
    "cv_delta_en": "Common Voice deltas, dev speakers",
    "cv61_rsample": "Common Voice 6.1 sample",
    "kokoro": "five Kokoro voices never trained on",
    "": "demo recordings (LibriVox, one reader)",
}


def log_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RUNS / "logs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def looks(name: str) -> dict[int, dict[str, Any]]:
    """The looks at the dev clips in a log, by step; of a step that was looked at twice the last one."""
    return {row["step"]: row for row in log_rows(name) if LIBRISPEECH in row}


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RUNS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, ["---"] * len(headings), *rows])


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def encoder_curve() -> str:
    found = looks("encoder").values()
    return table(
        ("step", "hours seen", "characters", "BPE head"),
        (
            (
                str(r["step"]),
                f"{r['hours']:.1f}",
                percent(r[LIBRISPEECH]),
                percent(r["wer_bpe_librispeech_devclean_mp3"]),
            )
            for r in found
        ),
    )


def speech_curve(log: str) -> str:
    return table(
        ("step", "hours seen", "LibriSpeech dev-clean", "Common Voice en"),
        (
            (str(r["step"]), f"{r['hours']:.1f}", percent(r[LIBRISPEECH]), percent(r[COMMON_VOICE]))
            for r in looks(log).values()
        ),
    )


def measured() -> str:
    rows = []
    for name in SETS:
        by_decoder = [{s["corpus"]: s for s in result(name + suffix)["scores"]} for suffix in DECODERS.values()]
        for corpus, score in by_decoder[0].items():
            rates = [percent(scores[corpus]["rate"]) for scores in by_decoder]
            rows.append([f"{CORPORA[corpus]}, {score['clips']} clips", f"{score['audio_s'] / 3600:.2f}", *rates])
    return table(("clips", "hours", *DECODERS), rows)


def speeds() -> str:
    found = [f"{result('dev-en' + suffix)['rtfx']:.0f} {name.split(' (')[0]}" for name, suffix in DECODERS.items()]
    return ", ".join(found)


def main() -> None:
    last = list(looks("encoder").values())[-1]
    text = log_rows("language_model")[-1]
    values = {
        "encoder_steps": last["step"],
        "encoder_hours": f"{last['hours']:.1f}",
        "encoder_curve": encoder_curve(),
        "text_steps": text["step"],
        "text_loss": f"{text['reply']:.2f}",
        "speech_curve": speech_curve("speech-3"),
        "measured": measured(),
        "normalizer": result("dev-en")["scores"][0]["normalizer"],
        "speeds": speeds(),
    }
    print(string.Template((RUNS / "card.md").read_text(encoding="utf-8")).substitute(values), end="")


if __name__ == "__main__":
    main()
