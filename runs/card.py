"""The card of lithophone-tiny: `card.md` with tables from the logs and `results`. Run from the repository root.

python runs/card.py > src/lithophone/assets/lithophone-tiny/README.md
"""

from __future__ import annotations

import itertools
import json
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent
LIBRISPEECH = "librispeech_devclean_mp3"
LANGUAGES = {
    "en": "English", "fr": "French", "de": "German", "es": "Spanish", "pt": "Portuguese", "ja": "Japanese",
}  # fmt: skip
SETS = {
    LIBRISPEECH: "LibriSpeech dev-clean, 10 speakers (MP3, then Opus at 20 kbit/s)",
    "cv_delta_en": "Common Voice deltas, dev speakers",
    "cv_delta_fr": "Common Voice deltas, dev speakers",
    "cv61_rsample": "Common Voice 6.1 sample",
    "kokoro": "Kokoro voices never trained on",
    "": "demo recordings (LibriVox, one reader)",
}
CORPORA = {
    "kokoro": ("Kokoro-82M v1.0, blends of its voices, foreign ones too", "Apache-2.0 voice, CC0 text"),
    "pico": ("SVOX Pico, five pitches", "Apache-2.0 voice, CC0 text; English also Tanaka, CC BY 2.0"),
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
ENCODER_LOGS = ("encoder", "encoder-settled", "encoder-1.1")
SPEECH_LOGS = ("speech-1.1", "speech-1.2")
CURVE_ROWS = 16
VERSION_0 = "data/version-0"
WHISPER, OURS, GREEDY, ENCODER, SPELLED = "whisper-base", "default", "greedy", "ctc", "characters"

Scores = dict[str, dict[str, Any]]
"""Corpus -> score."""


def log_rows(name: str) -> list[dict[str, Any]]:
    lines = (RUNS / "logs" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def looks(name: str) -> list[dict[str, Any]]:
    """The looks at the dev clips in a log, by step; of a step that was looked at twice the last one."""
    found = {row["step"]: row for row in log_rows(name) if f"wer_{LIBRISPEECH}_en" in row}
    return [found[step] for step in sorted(found)]


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RUNS / "results" / f"{name}.json").read_text(encoding="utf-8"))
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


def version_0(name: str = "version-0") -> Scores:
    first = result(name)
    before = next(one for one in (first, *first["others"]) if one["about"]["model"] == VERSION_0)
    return {score["corpus"]: score for score in before["scores"]}


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, ["---"] * len(headings), *rows])


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def curve(*names: str) -> str:
    """Error rates over the hours of a stage, whose logs follow one another."""
    groups = [(f"{LIBRISPEECH}_en", "LibriSpeech"), ("cv61_rsample_en", "en"), ("cv_delta_fr_fr", "fr")]
    groups += [(f"cv61_rsample_{lang}", lang) for lang in ("de", "es", "pt", "ja")]
    before = itertools.accumulate((looks(name)[-1]["hours"] for name in names), initial=0.0)
    logs = zip(names, before, strict=False)
    rows = [{**row, "hours": past + row["hours"]} for name, past in logs for row in looks(name)]
    shown = [row for i, row in enumerate(rows) if (len(rows) - 1 - i) % -(-len(rows) // CURVE_ROWS) == 0]
    return table(
        ("hours", *(label for _, label in groups)),
        (
            (
                f"{row['hours']:.0f}",
                *(percent(row[f"{'cer' if label == 'ja' else 'wer'}_{group}"]) for group, label in groups),
            )
            for row in shown
        ),
    )


def trained_on() -> str:
    hours: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for part in json.loads((RUNS / "logs" / "data.json").read_text(encoding="utf-8")):
        corpus, lang = part["name"].split(":")
        if lang in LANGUAGES:  # clips that are spelled in another language as well are there already
            hours[corpus][lang] += part["hours"]
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


def error_row(language: str, corpus: str, found: Mapping[str, Scores], before: Scores | None) -> list[str]:
    ours = found[OURS][corpus]
    told = f"{language}: {SETS[corpus]}, {ours['clips']} clips, {ours['audio_s'] / 60:.0f} min"
    errors = [percent(found[name][corpus]["rate"]) for name in (OURS, GREEDY, ENCODER)]
    old = percent(before[corpus]["rate"]) if before else ""
    whisper = percent(found[WHISPER][corpus]["rate"]) if WHISPER in found else ""
    by_letter = [percent(one.get("cer", one["rate"])) for one in (ours, found[SPELLED][corpus])]
    return [told, ours["measure"], *errors, old, whisper, *by_letter]


def measured() -> str:
    rows = []
    for lang, language in LANGUAGES.items():
        found = systems(f"dev-{lang}")
        before = version_0() if lang == "en" else None
        rows += [error_row(language, corpus, found, before) for corpus in sorted(found[OURS], reverse=True)]
        if (RUNS / "results" / f"unseen-{lang}.json").exists():
            old = version_0("version-0-unseen") if lang == "en" else None
            rows.append(error_row(language, "kokoro", systems(f"unseen-{lang}"), old))
    rows.append(error_row("English", "", systems("demo"), version_0("version-0-demo")))
    headings = (
        "clips", "", OURS, GREEDY, "encoder alone", "version 0.2", WHISPER, "CER, default", "CER, character head",
    )  # fmt: skip
    return table(headings, rows)


def pooled(scores: Scores) -> str:
    """The error rate of all corpora together."""
    errors = sum(score[part] for score in scores.values() for part in ("substitutions", "deletions", "insertions"))
    words = sum(score[part] for score in scores.values() for part in ("hits", "substitutions", "deletions"))
    return percent(errors / words)


def whole(name: str, lang: str) -> dict[str, Any]:
    """The score of all corpora of a language together, by the model."""
    found = result(name)
    score: dict[str, Any] = next(one for one in found["languages"] if one["lang"] == lang)
    return score


def punctuation() -> str:
    return table(
        ("", "PER", "F1 of capitals", "WER or CER"),
        (
            (
                language,
                percent(score["per"]["rate"]),
                f"{score['capitals']['f1']:.2f}" if score.get("capitals") and score["capitals"]["f1"] else "",
                percent(score["rate"]),
            )
            for lang, language in LANGUAGES.items()
            for score in (whole(f"punctuated-{lang}", lang),)
        ),
    )


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
    rows = []
    for name in [f"{lang}-en" for lang in LANGUAGES if lang != "en"] + ["en-es", "en-pt", "en-ja"]:
        first = result(name)
        by_system = {WHISPER if one["model"] is None else OURS: one for one in (first, *first["others"])}
        scores = {system: one["scores"][0]["translation"] for system, one in by_system.items()}
        cells = [f"{scores[s]['bleu']:.1f} / {scores[s]['chrf']:.1f}" if s in scores else "" for s in (OURS, WHISPER)]
        rows.append([" to ".join(LANGUAGES[code] for code in name.split("-")), *cells])
    return table(("", "BLEU / chrF++", WHISPER), rows)


def main() -> None:
    last, settled, further = (looks(name)[-1] for name in ENCODER_LOGS)
    text = [row for row in log_rows("language_model-1.1") if "reply" in row][-1]
    fast = speed("dev-en")
    values = {
        "trained_on": trained_on(),
        "encoder_steps": last["step"],
        "encoder_hours": f"{last['hours']:.0f}",
        "settled_steps": settled["step"],
        "settled_hours": f"{settled['hours']:.0f}",
        "further_steps": further["step"],
        "further_hours": f"{further['hours']:.0f}",
        "encoder_curve": curve(*ENCODER_LOGS),
        "text_steps": text["step"],
        "text_loss": f"{text['reply']:.2f}",
        "speech_steps": sum(looks(name)[-1]["step"] for name in SPEECH_LOGS),
        "speech_curve": curve(*SPEECH_LOGS),
        "measured": measured(),
        "english": pooled(systems("dev-en")[OURS]),
        "english_before": pooled(version_0()),
        "punctuation": punctuation(),
        "keywords": keywords(),
        "translation": translation(),
        "normalizer": whole("punctuated-en", "en")["normalizer"],
        "untold": percent(whole("untold-ja", "ja")["rate"]),
        "speeds": f"{fast[OURS]} by default, {fast[GREEDY]} greedy, {fast[ENCODER]} by the encoder alone",
    }
    print(string.Template((RUNS / "card.md").read_text(encoding="utf-8")).substitute(values), end="")


if __name__ == "__main__":
    main()
