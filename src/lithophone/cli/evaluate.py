"""`lithophone evaluate`: error rates and speed over a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lithophone.cli import terminal
from lithophone.cli.options import takes_options
from lithophone.cli.progress import AudioProgress
from lithophone.errors import OptionError
from lithophone.hub import DEFAULT_MODEL
from lithophone.longform.options import TranscribeOptions
from lithophone.manifest import Entry, read_entries

if TYPE_CHECKING:
    from lithophone.evaluate import Evaluation
    from lithophone.longform.jobs import Piece


@terminal.with_exit_status
@takes_options("task", "to", "word_timestamps")
def evaluate(
    manifest: Annotated[
        Path, typer.Argument(help="JSON lines with audio, text, lang, duration; paths relative to it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    model: terminal.Model = DEFAULT_MODEL,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many clips.")] = None,
    lang: Annotated[str | None, typer.Option(help="Only clips of this language.")] = None,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
) -> None:
    """Word error rate (characters for ja, zh) per corpus and language, and the speed."""
    entries = read_entries(manifest, lang, limit)
    evaluation = measured(entries, options, model, device, dtype, quiet)
    print(json.dumps({"model": model, **evaluation.to_dict()}, indent=2)) if as_json else show(evaluation)
    if evaluation.failed:
        terminal.say_error(f"{evaluation.failed} of {len(entries)} clips failed and were counted as empty")
        raise typer.Exit(terminal.FAILED)


def measured(
    entries: list[Entry], options: TranscribeOptions, model: str, device: str | None, dtype: str | None, quiet: bool
) -> Evaluation:
    """Load the model and run the measure under a progress bar."""
    try:
        from lithophone.evaluate import evaluate as measure
    except ModuleNotFoundError as error:
        raise OptionError(f"{error.name} is missing: pip install 'lithophone[eval]'") from error
    from lithophone.longform.transcriber import load

    total_s = sum(entry.duration_s or 0.0 for entry in entries)
    with AudioProgress(quiet) as progress:
        transcriber = load(model, device, dtype)
        progress.start("evaluating")

        def on_piece(piece: Piece) -> None:
            if piece.done_s == piece.duration_s:
                progress.finish(piece.duration_s)
            progress.show("evaluating", progress.audio_s, max(total_s, progress.audio_s))

        return measure(transcriber, entries, options, on_piece)


def show(evaluation: Evaluation) -> None:
    """The scores as a table on stdout, every one with the name of its normaliser."""
    table = Table(title=f"RTFx {evaluation.rtfx:.1f}, decoding of the files included")
    for heading in ("corpus", "lang", "measure", "%", "S", "D", "I", "N", "clips", "minutes", "normaliser"):
        table.add_column(heading, justify="left" if heading in ("corpus", "lang", "measure", "normaliser") else "right")
    for score in evaluation.scores:
        c = score.counts
        numbers = (f"{100 * c.rate:.2f}", c.substitutions, c.deletions, c.insertions, c.reference_length, score.clips)
        row = (score.corpus, score.lang, score.measure, *numbers, f"{score.audio_s / 60:.1f}", score.normalizer)
        table.add_row(*map(str, row))
    terminal.print_table(table)
