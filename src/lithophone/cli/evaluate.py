"""`lithophone evaluate`: all measures a manifest allows, of models and of given hypotheses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lithophone.cli import terminal
from lithophone.cli.options import takes
from lithophone.cli.progress import AudioProgress
from lithophone.cli.scores import show
from lithophone.cli.sources import SUFFIXES
from lithophone.cli.threads import limit_threads
from lithophone.errors import OptionError
from lithophone.files import write_whole
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions
from lithophone.transcript import Transcript

if TYPE_CHECKING:
    from lithophone.evaluation.report import Page
    from lithophone.evaluation.run import OnEvent
    from lithophone.evaluation.session import EvaluationResult
    from lithophone.pipeline.assembly import Event


@terminal.with_exit_status
@takes("options", TranscribeOptions, "word_timestamps", "speakers")
def evaluate(
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(help="JSON lines with audio, text, lang, and what else is known; paths relative to them."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"Name or folder of a model; may be repeated (default: {DEFAULT_MODEL}, if no hypotheses)."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Run every model again with these options: 'decode=beam num_beams=4'; may be repeated."),
    ] = None,
    hypotheses: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE", help="Score these: jsonl, ctm, stm, rttm, srt, vtt; may be repeated."),
    ] = None,
    speakers: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE", help="Who spoke when (rttm), for the words of the hypotheses NAME."),
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="A public set in --folder, instead of a manifest.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the corpus lies.")] = None,
    split: Annotated[str | None, typer.Option(help="The corpus's split (default: its test set).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many clips.")] = None,
    lang: Annotated[str | None, typer.Option(help="Only clips of this language.")] = None,
    distractors: Annotated[
        int | None, typer.Option(min=0, help="Biasing list of every clip: its rare words and N distractors.")
    ] = None,
    common: Annotated[
        Path | None,
        typer.Option(help="Words that are never keywords, the most common first (default: those of the references)."),
    ] = None,
    bias: Annotated[bool, typer.Option("--bias", help="Name every clip's keywords in its prompt.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep hypotheses in a .jsonl file, or a folder of them, and go on from what is there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report, one file with everything in it.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Clips with the most errors in the report.")] = 50,
    normalizer: Annotated[
        str | None,
        typer.Option(
            help="english, english-apostrophes, basic, characters, kana, multilingual (default: by language)."
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws for intervals and tests.")] = 1000,
    draw_seed: Annotated[int, typer.Option(help="Seed of these draws, and of the distractors.")] = 0,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    threads: terminal.Threads = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
) -> None:
    """Error rates with intervals and all other measures the manifest allows, per corpus and language, and the speed."""
    check_manifests(manifests or ())
    limit_threads(threads)
    with terminal.needs("eval"):
        from lithophone.evaluation.report import Page
        from lithophone.evaluation.session import EvaluationRequest, run_evaluation
        from lithophone.evaluation.summary import Resampling

        request = EvaluationRequest(
            manifests=tuple(manifests or ()), corpus=corpus, folder=folder, split=split, limit=limit, lang=lang,
            models=tuple(model or ()), also=tuple(also or ()), options=options, bias=bias,
            hypotheses=tuple(hypotheses or ()), speakers=tuple(speakers or ()), distractors=distractors, common=common,
            save=save, html=html, normalizer=normalizer, resampling=Resampling(level, resamples, draw_seed),
            device=device, dtype=dtype,
        )  # fmt: skip
        result = run_evaluation(request, DEFAULT_MODEL, partial(bar, quiet))
        if as_json:
            print(json.dumps(result.to_dict(), indent=2))
        else:
            show(result.systems, result.evaluations, result.comparisons, level)
        written = html is None or write_report(html, Page(request.title, worst, resampling=request.resampling), result)
    for warning in result.warnings:
        terminal.say_warning(warning)
    for failure in result.failures:
        terminal.say_error(failure)
    if result.failures or not written:
        raise typer.Exit(terminal.FAILED)


def check_manifests(paths: Iterable[Path]) -> None:
    """OptionError for a recording in place of a manifest."""
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            raise OptionError(
                f"{path} is a recording: evaluate takes manifests, JSON lines with audio and text; "
                f"lithophone transcribe {path} transcribes it"
            )


@contextlib.contextmanager
def bar(quiet: bool, name: str, total_s: float) -> Iterator[OnEvent]:
    """A progress bar in seconds of audio."""
    from lithophone.pipeline.assembly import RecordingDone

    with AudioProgress(quiet) as progress:
        progress.start(name)

        def on_event(event: Event) -> None:
            if isinstance(event, RecordingDone) and isinstance(event.result, Transcript):
                progress.finish(event.result.duration_s)
            progress.show(name, progress.audio_s, max(total_s, progress.audio_s))

        yield on_event


def write_report(path: Path, page: Page, result: EvaluationResult) -> bool:
    """Write the report; errors go to stderr."""
    from lithophone.evaluation.report import report

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, report(page, result.systems, result.evaluations, result.comparisons))
    except OSError as error:
        terminal.say_error(f"--html {path} cannot be written: {error.strerror or error}")
        return False
    return True
