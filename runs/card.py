"""The card of lithophone-tiny: `card.md` with tables from the logs and `results`. Run from the repository root.

python runs/card.py > src/lithophone/assets/lithophone-tiny/README.md
"""

from __future__ import annotations

import json
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent
RESULTS = RUNS / "results"
BEFORE = "version-1.2"
LIBRISPEECH = "librispeech_devclean_mp3"
LANGUAGES = {
    "en": "English", "fr": "French", "de": "German", "es": "Spanish", "pt": "Portuguese", "ja": "Japanese",
}  # fmt: skip
SETS = {
    LIBRISPEECH: "LibriSpeech dev-clean, 10 speakers (MP3, then Opus at 20 kbit/s)",
    "cv_delta_en": "Common Voice deltas, dev speakers",
    "cv_delta_fr": "Common Voice deltas, dev speakers",
    "cv61_rsample": "Common Voice 6.1 sample",
    "": "demo recordings (LibriVox, one reader)",
}
CORPORA = {
    "kokoro": ("Kokoro-82M v1.0, blends of its voices, foreign ones too", "Apache-2.0 voice, CC0 text"),
    "pico": ("SVOX Pico, five pitches", "Apache-2.0 voice, CC0 text"),
    "flite": ("flite: kal, awb, rms, slt", "BSD-like voices, CC0 text"),
    "openjtalk": ("Open JTalk, voice mei, five pitches", "CC BY 3.0 voice, text of the Tanaka corpus, CC BY 2.0"),
    "kathleen": ("kathleen, one reader", "CC0"),
    "kerstin_de": ("kerstin, one reader", "CC0"),
    "cv_delta_en": ("Common Voice deltas 18 to 20", "CC0"),
    "cv_delta_fr": ("Common Voice deltas 18 to 20", "CC0"),
    "cv_puri": ("Common Voice, Indian accents", "CC0"),
    "dc_tts_philipp": ("dc_tts amateur readings, one reader", "Apache-2.0"),
    "speechocean762": ("speechocean762, Mandarin accents, half of the speakers under 16", "free for commercial use"),
}
WHISPER, OURS, GREEDY, ENCODER, SPELLED = "whisper-base", "default", "greedy", "ctc", "characters"

Scores = dict[str, dict[str, Any]]
"""Corpus -> score."""


def log_rows(name: str) -> list[dict[str, Any]]:
    lines = (RUNS / "logs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def looks(name: str) -> list[dict[str, Any]]:
    """The evaluations in a log, by step; of a step that was evaluated twice the last one."""
    found = {row["step"]: row for row in log_rows(name) if row["kind"] == "dev"}
    return [found[step] for step in sorted(found)]


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def systems(name: str) -> dict[str, Scores]:
    """What each system of a result scored, ours by its decoder."""
    first = result(name)
    return {kind(one): {s["corpus"]: s for s in one["scores"]} for one in (first, *first["others"])}


def kind(system: Mapping[str, Any]) -> str:
    about = system["about"]
    return WHISPER if system["model"] is None else about.get("ctc_head", about.get("decode", OURS))


def speed(name: str) -> dict[str, str]:
    first = result(name)
    return {kind(one): f"{one['rtfx']:.0f}" for one in (first, *first["others"]) if "rtfx" in one}


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, ["---"] * len(headings), *rows])


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def trained_on() -> str:
    hours: dict[str, dict[str, float]] = defaultdict(dict)
    for part in json.loads((RUNS / "logs" / "data.json").read_text(encoding="utf-8")):
        corpus, lang = part["name"].split(":")
        hours[corpus][lang] = hours[corpus].get(lang, 0.0) + part["hours"]
    return table(
        ("corpus", "hours", "licence"),
        (
            (
                CORPORA[corpus][0],
                ", ".join(f"{lang} {found[lang]:.2f}" for lang in LANGUAGES if lang in found),
                CORPORA[corpus][1],
            )
            for corpus, found in sorted(hours.items(), key=lambda item: -sum(item[1].values()))
        ),
    )


def error_row(language: str, corpus: str, found: Mapping[str, Scores], before: Mapping[str, Scores]) -> list[str]:
    """Errors by default, greedily and by the encoder; of version 1.2 and whisper-base; by characters."""
    ours = found[OURS][corpus]
    clips = f"{language}: {SETS[corpus]}, {ours['clips']} clips, {ours['audio_s'] / 60:.0f} min"
    errors = [percent(found[name][corpus]["rate"]) for name in (OURS, GREEDY, ENCODER)]
    peers = [percent(before[name][corpus]["rate"]) if name in before else "" for name in (OURS, WHISPER)]
    by_letter = [percent(one.get("cer", one["rate"])) for one in (ours, found[SPELLED][corpus])]
    return [clips, ours["measure"], *errors, *peers, *by_letter]


def measured() -> str:
    rows = []
    for name, language in [*((f"dev-{lang}", language) for lang, language in LANGUAGES.items()), ("demo", "English")]:
        found, before = systems(name), systems(f"{BEFORE}/{name}")
        rows += [error_row(language, corpus, found, before) for corpus in sorted(found[OURS], reverse=True)]
    headings = (
        "clips", "", OURS, GREEDY, "encoder alone", "version 1.2", WHISPER, "CER, default", "CER, character head",
    )  # fmt: skip
    return table(headings, rows)


def whole(name: str, lang: str) -> dict[str, Any]:
    """The score of all corpora of a language together, by the model."""
    found = result(name)
    score: dict[str, Any] = next(one for one in found["languages"] if one["lang"] == lang)
    return score


def keywords() -> str:
    rows = []
    for name, told in (
        ("lists-none", "none"),
        ("lists", "rare words of the clip and 20 distractors"),
        ("distractors", "20 distractors"),
    ):
        first = result(name)
        for system in (first, *first["others"]):
            score = next(one for one in system["languages"] if one["lang"] == "en")
            shown = (
                [""] * 3
                if name == "distractors"
                else [percent(score["keywords"]["recall"]), percent(score["b_wer"]), percent(score["u_wer"])]
            )
            rows.append([told, kind(system), *shown, percent(score["rate"])])
    return table(("list", "", "recall of its words", "B-WER", "U-WER", "WER"), rows)


def translation() -> str:
    """From every language into English, beside version 1.2 and whisper-base."""
    rows = []
    for lang in LANGUAGES:
        if lang != "en":
            scores = {OURS: _translated(f"{lang}-en")[OURS]} | {
                name if name == WHISPER else BEFORE: found for name, found in _translated(f"{BEFORE}/{lang}-en").items()
            }
            shown = (f"{s['bleu']:.1f} / {s['chrf']:.1f}" for s in (scores[n] for n in (OURS, BEFORE, WHISPER)))
            rows.append([f"{LANGUAGES[lang]} to English", *shown])
    return table(("", "BLEU / chrF++", "version 1.2", WHISPER), rows)


def _translated(name: str) -> Scores:
    first = result(name)
    return {
        WHISPER if one["model"] is None else OURS: one["scores"][0]["translation"] for one in (first, *first["others"])
    }


def main() -> None:
    fast = speed("dev-en")
    speech = log_rows("speech")[-1]
    encoder = looks("transplant-joint")[-1]
    values = {
        "trained_on": trained_on(),
        **{name: f"{encoder[name]:.2f}" for name in ("teacher_text", "text", "ctc", "ctc_bpe")},
        "speech_steps": speech["step"],
        "speech_hours": f"{speech['hours']:.0f}",
        "speech_loss": f"{speech['reply']:.2f}",
        "speech_divergence": f"{speech['teacher_reply']:.2f}",
        "measured": measured(),
        "keywords": keywords(),
        "translation": translation(),
        "normalizer": whole("dev-en", "en")["normalizer"],
        "untold": percent(whole("untold-ja", "ja")["rate"]),
        "speeds": f"{fast[OURS]} by default, {fast[GREEDY]} greedy, {fast[ENCODER]} by the encoder alone",
    }
    print(string.Template((RUNS / "card.md").read_text(encoding="utf-8")).substitute(values), end="")


if __name__ == "__main__":
    main()
