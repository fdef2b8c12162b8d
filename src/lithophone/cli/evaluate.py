"""`lithophone evaluate`: every measure that a manifest allows, of models and of any system's hypotheses."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lithophone.cli import terminal
from lithophone.cli.options import takes
from lithophone.cli.progress import AudioProgress
from lithophone.cli.scores import show
from lithophone.data.manifest import Entry, read_entries
from lithophone.errors import OptionError
from lithophone.evaluation.plans import Plan, Source, check_names, plans_of, sources_of
from lithophone.files import write_whole
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.options import TranscribeOptions

if TYPE_CHECKING:
    from lithophone.evaluation.contextual import ContextualSets
    from lithophone.evaluation.saved import SavedAnswers
    from lithophone.evaluation.summary import Comparison, Evaluation, Resampling, System
    from lithophone.evaluation.tally import Texts
    from lithophone.pipeline.transcriber import Transcriber
    from lithophone.pipeline.utterance import Piece

NAMES_SAID = 5
"""Names of clips in a message; the report lists more."""


@dataclass(frozen=True)
class Machine:
    """Where models run, and whether a progress bar is wanted."""

    device: str | None
    dtype: str | None
    quiet: bool


@terminal.with_exit_status
@takes("options", TranscribeOptions, "word_timestamps")
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
        typer.Option(help="Every model once more, with options changed: 'decode=beam num_beams=4'; may be repeated."),
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
        int | None, typer.Option(min=0, help="Keywords of every clip: its rare words and so many others.")
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
        str | None, typer.Option(help="english, basic, characters, kana, multilingual (default: each language's own).")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap draws for intervals and tests.")] = 1000,
    draw_seed: Annotated[int, typer.Option(help="Seed of these draws, and of the distractors.")] = 0,
    device: terminal.Device = None,
    dtype: terminal.Dtype = None,
    quiet: terminal.Quiet = False,
    *,
    options: TranscribeOptions,
) -> None:
    """Error rates with intervals and all other measures the manifest allows, per corpus and language, and the speed."""
    with terminal.needs("eval"):
        from lithophone.evaluation.summary import Resampling, compare, summarize
        from lithophone.evaluation.tally import Texts

        texts = Texts(options.to and options.text_language, normalizer)
        resampling = Resampling(level, resamples, draw_seed)
        entries = entries_of(manifests or [], corpus, folder, split, lang, limit)
        lists = keyword_lists(entries, distractors, draw_seed, common)
        entries = entries if lists is None else lists.entries
        made = {} if lists is None else {"lists": str(lists)}
        sources = sources_of(hypotheses or [], speakers or [])
        plans = plans_of(model or ([] if sources else [DEFAULT_MODEL]), also or [], options, bias)
        check(plans, sources, also or [], save)
        for spoken in {entry.lang for entry in entries}:
            texts.normalizer_of(spoken)  # an error now, and not when all is transcribed
        machine = Machine(device, dtype, quiet)
        systems = [
            replace(system, about={**system.about, **made})
            for system in systems_of(plans, sources, entries, texts, save, machine, made)
        ]
        evaluations = [summarize(system, resampling) for system in systems]
        comparisons = compare(systems, resampling)
        title = ", ".join([corpus] if corpus else [path.stem for path in manifests or []])
        if html is not None:
            write_report(html, title, worst, resampling, systems, evaluations, comparisons)
        if as_json:
            print(json.dumps(as_dict(systems, evaluations, comparisons), indent=2))
        else:
            show(systems, evaluations, comparisons)
    tell(systems)


def entries_of(
    manifests: Sequence[Path],
    corpus: str | None,
    folder: Path | None,
    split: str | None,
    lang: str | None,
    limit: int | None,
) -> list[Entry]:
    """The clips of all manifests, or of a corpus on disk. OptionError where it is not clear which."""
    if (corpus is None) != (folder is None) or (corpus is None and split is not None):
        raise OptionError("--corpus and --folder go together, and --split with them: name the set and where it lies")
    if bool(manifests) == (corpus is not None):
        raise OptionError("name manifests, or a public set with --corpus and --folder: one of the two")
    if corpus is not None and folder is not None:
        from lithophone.data.corpora import read_corpus

        return read_corpus(corpus, folder, split, lang, limit)
    if len(manifests) == 1:
        return read_entries(manifests[0], lang, limit)
    # Names are relative to their manifests: those of different folders could be the same.
    apart = len({path.parent for path in manifests}) > 1
    entries = [(path, entry) for path in manifests for entry in read_entries(path, lang)][:limit]
    return [replace(entry, name=f"{path.parent}/{entry.name}") if apart else entry for path, entry in entries]


def keyword_lists(
    entries: Sequence[Entry], distractors: int | None, seed: int, common: Path | None
) -> ContextualSets | None:
    """Keyword lists made of the references; None where the manifest's own are to be used."""
    from lithophone.evaluation.contextual import contextual_sets, read_common_words

    if distractors is None:
        if common is not None:
            raise OptionError("--common says what is no keyword of lists that are made: name a number of --distractors")
        return None
    known = None if common is None else read_common_words(common, entries[0].lang)
    return contextual_sets(entries, distractors=distractors, seed=seed, common=known)


def check(plans: Sequence[Plan], sources: Sequence[Source], also: Sequence[str], save: Path | None) -> None:
    """OptionError for what does not go together, before anything is loaded."""
    check_names([source.name for source in sources] + [plan.name for plan in plans])
    if not plans and (also or save):
        raise OptionError("--also and --save go with a model, and there are only hypotheses: name one with --model")
    if save is not None and save.suffix == ".jsonl" and len(plans) > 1:
        raise OptionError(f"--save {save} cannot hold {len(plans)} systems: name a folder, which gets a file for each")


def systems_of(
    plans: Sequence[Plan],
    sources: Sequence[Source],
    entries: Sequence[Entry],
    texts: Texts,
    save: Path | None,
    machine: Machine,
    made: Mapping[str, str],
) -> Iterator[System]:
    """Hypotheses first, then every model with all of its options, loaded once.

    `made` says how keyword lists were made: a model that is told of them gives other words with others.
    """
    from lithophone.evaluation.hypotheses import read_hypotheses, with_speakers
    from lithophone.evaluation.run import given

    for source in sources:
        found = read_hypotheses(source.path)
        if source.speakers is not None:
            found = with_speakers(found, read_hypotheses(source.speakers))
        yield given(source.name, entries, found, texts=texts, about=source.about, workers=workers())
    if not plans:
        return
    from lithophone.pipeline.transcriber import load

    for model, some in itertools.groupby(plans, key=lambda plan: plan.model):
        mine = list(some)
        transcriber = load(model, machine.device, machine.dtype)
        for plan in mine:
            transcriber.transcribe_many([], options=plan.options)  # refuses what the model cannot do, and does nothing
        for plan in mine:
            yield measured(plan, transcriber, entries, texts, saved_answers(plan, save, made), machine)


def saved_answers(plan: Plan, save: Path | None, made: Mapping[str, str]) -> SavedAnswers | None:
    """Where the hypotheses of a plan are kept."""
    from lithophone.evaluation.saved import SavedAnswers

    if save is None:
        return None
    path = save if save.suffix == ".jsonl" else save / f"{re.sub(r'[^A-Za-z0-9.=_-]+', '_', plan.name)}.jsonl"
    made_by = {**plan.about, **(made if plan.biased else {})}
    return SavedAnswers(path, ", ".join(f"{name}={value}" for name, value in made_by.items()))


def measured(
    plan: Plan,
    transcriber: Transcriber,
    entries: Sequence[Entry],
    texts: Texts,
    saved: SavedAnswers | None,
    machine: Machine,
) -> System:
    """Run a plan under a progress bar."""
    from lithophone.evaluation.run import key_of, transcribed

    done = set(saved.read()) if saved else set()
    total_s = sum(entry.duration_s or 0.0 for entry in entries if key_of(entry) not in done)
    with AudioProgress(machine.quiet) as progress:
        progress.start(plan.name)

        def on_piece(piece: Piece) -> None:
            if piece.done_s == piece.duration_s:
                progress.finish(piece.duration_s)
            progress.show(plan.name, progress.audio_s, max(total_s, progress.audio_s))

        return transcribed(
            plan.name,
            transcriber,
            entries,
            plan.options,
            on_piece,
            biased=plan.biased,
            texts=texts,
            saved=saved,
            about=plan.about,
            workers=workers(),
        )


def workers() -> int:
    """Processes that may count: one for every core."""
    return os.cpu_count() or 1


def write_report(
    path: Path,
    title: str,
    worst: int,
    resampling: Resampling,
    systems: Sequence[System],
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison],
) -> None:
    from lithophone.evaluation.report import Page, report

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, report(Page(title, worst, resampling=resampling), systems, evaluations, comparisons))


def as_dict(
    systems: Sequence[System], evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]
) -> dict[str, Any]:
    """The first system's scores at the top, those of the others under `others`."""
    first, *others = (
        {
            "system": system.name,
            "model": system.about.get("model"),
            "about": {name: value if _is_plain(value) else str(value) for name, value in system.about.items()},
            **evaluation.to_dict(),
            "without_hypothesis": list(system.without_hypothesis),
            "without_reference": list(system.without_reference),
        }
        for system, evaluation in zip(systems, evaluations, strict=True)
    )
    return {**first, "others": others, "paired": [comparison.to_dict() for comparison in comparisons]}


def tell(systems: Sequence[System]) -> None:
    """Say on stderr what did not match or could not be done; clips that failed make the command fail."""
    for system in systems:
        if system.without_reference:
            terminal.say_warning(
                f"{system.name}: {len(system.without_reference)} hypotheses have no reference and were not counted: "
                f"{_some(system.without_reference)}"
            )
        empty = sum(clip.tally.empty_references for clip in system.clips)
        if empty:
            terminal.say_warning(f"{empty} references are empty: all that {system.name} heard there is an insertion")
    failed = [system for system in systems if system.without_hypothesis]
    for system in failed:
        lost = system.without_hypothesis
        terminal.say_error(
            f"{system.name}: {len(lost)} of {len(system.clips)} clips failed and were counted as empty: {_some(lost)}"
        )
    if failed:
        raise typer.Exit(terminal.FAILED)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | list | tuple) or value is None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SAID]) + (", ..." if len(names) > NAMES_SAID else "")
