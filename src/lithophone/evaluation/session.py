"""One evaluation from request to result: clips, systems, scores, warnings.

Everything refusable is refused before the first clip is decoded. Prints nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lithophone.data.manifest import Entry, read_entries
from lithophone.errors import OptionError
from lithophone.evaluation.contextual import ContextualSets, contextual_sets, read_common_words
from lithophone.evaluation.hypotheses import read_hypotheses
from lithophone.evaluation.matching import match, some_of, with_speakers
from lithophone.evaluation.plans import Plan, Source, check_names, plans_of, sources_of
from lithophone.evaluation.run import from_hypotheses, run_model
from lithophone.evaluation.saved import SavedAnswers
from lithophone.evaluation.summary import AS_USUAL, Comparison, Evaluation, Resampling, System, compare, summarize
from lithophone.evaluation.tally import Texts
from lithophone.files import check_writable
from lithophone.metrics.counts import count_errors
from lithophone.metrics.keywords import keyword_units
from lithophone.metrics.normalize import APOSTROPHES, TO_ASCII
from lithophone.metrics.translation import bleu_of
from lithophone.pipeline.options import TranscribeOptions

if TYPE_CHECKING:
    from lithophone.evaluation.run import OnEvent
    from lithophone.pipeline.transcriber import Transcriber

LONGEST_NAME = 200
"""Bytes of a system's file name, without suffix."""

Progress: TypeAlias = Callable[[str, float], "AbstractContextManager[OnEvent | None]"]
"""Called per model with its name and the seconds of audio to come; gives the callback after every window."""


@dataclass(frozen=True)
class EvaluationRequest:
    """Options of `lithophone evaluate`; the command line explains them."""

    manifests: tuple[Path, ...] = ()
    corpus: str | None = None
    folder: Path | None = None
    split: str | None = None
    limit: int | None = None
    lang: str | None = None
    models: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    options: TranscribeOptions = field(default_factory=TranscribeOptions)
    bias: bool = False
    hypotheses: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    distractors: int | None = None
    common: Path | None = None
    save: Path | None = None
    html: Path | None = None
    normalizer: str | None = None
    resampling: Resampling = AS_USUAL
    device: str | None = None
    dtype: str | None = None

    @property
    def title(self) -> str:
        return self.corpus or ", ".join(path.stem for path in self.manifests)

    @property
    def texts(self) -> Texts:
        return Texts(self.options.to and self.options.text_language, self.normalizer)


@dataclass(frozen=True)
class EvaluationResult:
    """Systems in the order given, hypotheses first, with scores and paired tests."""

    systems: tuple[System, ...]
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """Scores of the first system at the top, those of the others under `others`."""
        first, *others = (
            {
                "system": system.name,
                "model": system.about.get("model"),
                "about": {name: value if _is_plain(value) else str(value) for name, value in system.about.items()},
                **evaluation.to_dict(),
                "without_hypothesis": list(system.without_hypothesis),
                "without_reference": list(system.without_reference),
            }
            for system, evaluation in zip(self.systems, self.evaluations, strict=True)
        )
        return {**first, "others": others, "paired": [comparison.to_dict() for comparison in self.comparisons]}

    @property
    def warnings(self) -> list[str]:
        """Hypotheses without reference, empty references, typographic apostrophes."""
        return [line for system in self.systems for line in _warnings(system)]

    @property
    def failures(self) -> list[str]:
        """Systems that failed on clips, with the names of the first."""
        return [
            f"{system.name}: {len(lost)} of {len(system.clips)} clips failed and were counted as empty: {some_of(lost)}"
            for system in self.systems
            if (lost := system.without_hypothesis)
        ]


def run_evaluation(
    request: EvaluationRequest, default_model: str, progress: Progress = lambda *_: nullcontext()
) -> EvaluationResult:
    """Score the request; `default_model` is run where neither models nor hypotheses are named.

    Raises OptionError and ManifestError for the request, CheckpointError, ConfigError and DownloadError for models.
    """
    entries, lists = clips_of(request)
    sources = sources_of(request.hypotheses, request.speakers)
    models = request.models or (() if sources else (default_model,))
    plans = plans_of(models, request.also, request.options, request.bias)
    session = _Session(request, entries, lists, progress)
    session.check(plans, sources)
    systems = [replace(s, about={**s.about, **session.made}) for s in session.systems(plans, sources)]
    evaluations = tuple(summarize(system, request.resampling) for system in systems)
    return EvaluationResult(tuple(systems), evaluations, compare(systems, request.resampling))


# --- clips


def clips_of(request: EvaluationRequest) -> tuple[list[Entry], ContextualSets | None]:
    """The clips, with their keyword lists if requested, and how these were made."""
    entries = _entries(request)
    if request.distractors is None:
        if request.common is not None:
            raise OptionError("--common says what is no keyword of lists that are made: name a number of --distractors")
        return entries, None
    common = None if request.common is None else read_common_words(request.common, entries[0].lang)
    seed = request.resampling.seed
    lists = contextual_sets(entries, distractors=request.distractors, seed=seed, common=common)
    return lists.entries, lists


def _entries(request: EvaluationRequest) -> list[Entry]:
    corpus, folder, manifests = request.corpus, request.folder, request.manifests
    if (corpus is None) != (folder is None) or (corpus is None and request.split is not None):
        raise OptionError("--corpus and --folder go together, and --split with them: name the set and where it lies")
    if bool(manifests) == (corpus is not None):
        raise OptionError("name manifests, or a public set with --corpus and --folder: one of the two")
    if corpus is not None and folder is not None:
        from lithophone.data.corpora import read_corpus

        return read_corpus(corpus, folder, request.split, request.lang, request.limit)
    if len(manifests) == 1:
        return read_entries(manifests[0], request.lang, request.limit)
    # Names are relative to their manifests: those of different folders could coincide.
    apart = len({path.parent for path in manifests}) > 1
    found = [(path, entry) for path in manifests for entry in read_entries(path, request.lang)][: request.limit]
    return [replace(entry, name=f"{path.parent}/{entry.name}") if apart else entry for path, entry in found]


# --- systems


class _Session:
    def __init__(
        self, request: EvaluationRequest, entries: list[Entry], lists: ContextualSets | None, progress: Progress
    ) -> None:
        self.request, self.entries, self.progress = request, entries, progress
        self.made: Mapping[str, str] = {} if lists is None else {"lists": str(lists)}

    def check(self, plans: Sequence[Plan], sources: Sequence[Source]) -> None:
        """Refuse contradictory options, what the measures cannot take, and outputs that cannot be written."""
        request = self.request
        check_names([source.name for source in sources] + [plan.name for plan in plans])
        if not plans and (request.also or request.save):
            raise OptionError("--also and --save go with a model, and there are only hypotheses: name one with --model")
        if request.save is not None and request.save.suffix == ".jsonl" and len(plans) > 1:
            raise OptionError(
                f"--save {request.save} cannot hold {len(plans)} systems: name a folder, which gets a file for each"
            )
        match(self.entries, {})  # refuses two clips of one name
        self._check_measures()
        for keywords in {entry.keywords for entry in self.entries if any(plan.biased for plan in plans)}:
            replace(request.options, keywords=keywords)  # OptionError for what no prompt can hold
        if request.html is not None:
            check_writable(request.html, "--html")
        self._check_saved(plans)

    def _check_measures(self) -> None:
        """Refuse languages unknown to the normaliser, and keywords that normalise to nothing."""
        texts = self.request.texts
        for lang in {entry.lang for entry in self.entries}:
            texts.normalizer_of(lang)
        if texts.to:
            bleu_of(texts.to)
        for keywords, lang in {(entry.keywords, texts.language(entry.lang)) for entry in self.entries}:
            keyword_units(keywords, lang)

    def _check_saved(self, plans: Sequence[Plan]) -> None:
        paths = [answers.path for plan in plans if (answers := self._saved(plan)) is not None]
        if len(set(paths)) < len(paths):
            raise OptionError(f"--save {self.request.save}: two systems would be kept in {some_of(_twice(paths))}")
        for plan in plans:
            if (answers := self._saved(plan)) is not None:
                check_writable(answers.path, "--save")
                answers.read()

    def systems(self, plans: Sequence[Plan], sources: Sequence[Source]) -> Iterator[System]:
        """Hypotheses first, then every model with all of its options, loaded once."""
        for source in sources:
            found = read_hypotheses(source.path)
            if source.speakers is not None:
                found = with_speakers(found, read_hypotheses(source.speakers))
            texts, about = self.request.texts, source.about
            yield from_hypotheses(source.name, self.entries, found, texts=texts, about=about, workers=workers())
        for model, some in itertools.groupby(plans, key=lambda plan: plan.model):
            yield from self._models(model, list(some))

    def _models(self, model: str, plans: Sequence[Plan]) -> Iterator[System]:
        from lithophone.pipeline.transcriber import load

        transcriber = load(model, self.request.device, self.request.dtype)
        for plan in plans:
            transcriber.events([], options=plan.options)  # refuses what the model cannot do
        for plan in plans:
            yield self._measured(plan, transcriber)

    def _measured(self, plan: Plan, transcriber: Transcriber) -> System:
        saved = self._saved(plan)
        done = set(saved.of(self.entries)) if saved else set()
        total_s = sum(entry.duration_s or 0.0 for entry in self.entries if entry.id not in done)
        with self.progress(plan.name, total_s) as on_event:
            return run_model(
                plan.name, transcriber, self.entries, plan.options, on_event, biased=plan.biased,
                texts=self.request.texts, saved=saved, about=plan.about, workers=workers(),
            )  # fmt: skip

    def _saved(self, plan: Plan) -> SavedAnswers | None:
        save = self.request.save
        if save is None:
            return None
        path = save if save.suffix == ".jsonl" else save / f"{file_name(plan.name)}.jsonl"
        # Generated lists change the outputs of a model that has them in its prompt.
        made_by = {**plan.about, **(self.made if plan.biased else {})}
        return SavedAnswers(path, ", ".join(f"{name}={value}" for name, value in made_by.items()))


def file_name(system: str) -> str:
    """A system's name as a file name; long ones end in a digest."""
    name = re.sub(r"[^A-Za-z0-9.=_-]+", "_", system)
    digest = hashlib.sha256(system.encode(errors="backslashreplace")).hexdigest()[:12]
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}-{digest}"


def workers() -> int:
    """Processes that count: one per core."""
    return os.cpu_count() or 1


# --- warnings


def _warnings(system: System) -> Iterator[str]:
    lost = system.without_reference
    if lost:
        yield f"{system.name}: {len(lost)} hypotheses have no reference and were not counted: {some_of(lost)}"
    empty = sum(clip.tally.empty_references for clip in system.clips)
    if empty:
        yield f"{empty} references are empty: every word of {system.name} there is an insertion"
    errors = sum(_apostrophe_errors(system))
    if errors:
        yield (
            f"{system.name}: {errors} errors are typographic apostrophes (’), which the Leaderboard's normaliser does "
            "not fold: --normalizer english-apostrophes does"
        )


def _apostrophe_errors(system: System) -> Iterator[int]:
    """Errors per clip that vanish where apostrophes are ASCII on both sides."""
    for clip in system.clips:
        pair, lang = (clip.entry.text, clip.text), clip.entry.lang
        typographic = any(mark in text for text in pair for mark in APOSTROPHES)
        if typographic and system.texts.normalizer_of(lang).name == "english" and not clip.tally.failed:
            ref, hyp = (system.texts.units(text.translate(TO_ASCII), lang) for text in pair)
            yield max(clip.tally.counts.errors - count_errors(ref, hyp).errors, 0)


def _twice(paths: Sequence[Path]) -> list[str]:
    return sorted({str(path) for path in paths if paths.count(path) > 1})


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | list | tuple) or value is None
