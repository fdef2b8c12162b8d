"""Options of whisper, faster-whisper, WhisperX and whisper.cpp, and their counterparts here."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from lithophone.cli import terminal

ELSEWHERE = {
    "--initial-prompt": "words to expect are given with --keywords 'first, second'",
    "--prompt": "words to expect are given with --keywords 'first, second'",
    "--hotwords": "words to expect are given with --keywords 'first, second'",
    "--vad-filter": "voice activity detection is always on; --limit-s sets the longest window",
    "--vad": "voice activity detection is always on; --limit-s sets the longest window",
    "--vad-method": "voice activity detection is always on, by Silero VAD",
    "--chunk-size": "--limit-s sets the longest window in seconds",
    "--chunk-length": "--limit-s sets the longest window in seconds",
    "--condition-on-previous-text": "every window is decoded by itself",
    "--beam-size": "--decode beam --num-beams N",
    "--best-of": "--decode beam --num-beams N keeps N hypotheses",
    "--patience": "--decode beam has --num-beams and --length-penalty",
    "--temperature-increment-on-fallback": "a window is decoded once; doubtful ones get a warning",
    "--no-speech-threshold": "windows without speech are found by voice activity detection, and get a warning",
    "--logprob-threshold": "doubtful windows get a warning; --word-timestamps gives every word its confidence",
    "--compression-ratio-threshold": "replies that repeat themselves get the warning 'loop'",
    "--suppress-tokens": "there is no list of suppressed tokens",
    "--compute-type": "--dtype float32, bfloat16, float16 or int8",
    "--fp16": "--dtype float16",
    "--model-dir": "the environment variable HF_HOME is the folder of downloaded models",
    "--hf-token": "the environment variable HF_TOKEN is the token of the hub",
    "--max-words-per-line": "--max-line-width and --max-cue-s lay out srt and vtt",
    "--segment-resolution": "--max-line-width and --max-cue-s lay out srt and vtt",
    "--verbose": "progress is shown unless --quiet is given",
    "--print-progress": "progress is shown unless --quiet is given",
    "--num-speakers": "--diarize --speakers N",
    "--diarize-model": "--diarize finds speakers by their voices; --rttm takes them from a file",
    "--align-model": "words are aligned by the model's own encoder: --word-timestamps",
    "--no-align": "words are aligned only with --word-timestamps",
    "--num-workers": "--batch-size sets how many windows are decoded together",
    "--translate": "--task translate --to LANGUAGE",
}
"""Foreign option -> counterpart."""


class Command(TyperCommand):
    """A command that takes `--output_dir` for `--output-dir`, and names the counterparts of foreign options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, [_translated(argument, known) for argument in args])


def _translated(argument: str, known: set[str]) -> str:
    """The argument with dashes in its option; exit status 2 for a foreign option."""
    name, equals, value = argument.partition("=")
    dashed = name.replace("_", "-")
    if not name.startswith("--") or name in known:
        return argument
    if dashed in known:
        return dashed + equals + value
    if dashed in ELSEWHERE:
        terminal.say_error(f"there is no option {name} here: {ELSEWHERE[dashed]}")
        raise typer.Exit(terminal.WRONG_USAGE)
    return argument
