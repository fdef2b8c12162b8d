"""`lithophone detect-language`: recordings -> the language of each, a line on stdout."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lithophone.cli import terminal
from lithophone.cli.sources import find_inputs
from lithophone.cli.transcribe import ModelChoice, load_model, named_inputs
from lithophone.errors import LithophoneError, OptionError
from lithophone.hub import DEFAULT_MODEL
from lithophone.transcript import LanguageGuess


@terminal.with_exit_status
def detect_language(
    files: terminal.Files = None,
    from_list: terminal.FromList = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line, with the probabilities of all languages.")
    ] = False,
    model: terminal.Model = DEFAULT_MODEL,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
) -> None:
    """Detect the language spoken by the first 20 s of speech: file, code and probability, with tabs between them."""
    inputs, unreadable = find_inputs(named_inputs(files or [], from_list))
    failed = len(unreadable)
    for refused in unreadable:
        terminal.say_error(refused)
    transcriber = load_model(ModelChoice(model, device, dtype, threads)) if inputs else None
    for file in inputs:
        assert transcriber is not None, "loaded where there are inputs"
        try:
            guess = transcriber.detect_language(file.source)
        except OptionError:  # of the model, not of the recording
            raise
        except (LithophoneError, OSError) as error:
            failed += 1
            terminal.say_error(error if file.label in str(error) else f"{file.label}: {error}")
            continue
        terminal.print_text(as_line(file.label, guess, as_json=as_json) + "\n", exact=False)
    if failed:
        raise typer.Exit(terminal.FAILED)


def as_line(label: str, guess: LanguageGuess, *, as_json: bool) -> str:
    """Language and probability are - in text, and null in JSON, where there is no speech."""
    if as_json:
        probabilities = {code: round(probability, 4) for code, probability in guess.probabilities.items()}
        first = {"file": label, "language": guess.language, "probability": probabilities.get(guess.language or "")}
        return json.dumps({**first, "probabilities": probabilities}, ensure_ascii=False)
    probability = "-" if guess.probability is None else f"{guess.probability:.3f}"
    return "\t".join((label, guess.language or "-", probability))
