"""Continuous batching: requests of all decoders join and leave, and share passes of the language model.

    submit -> waiting -> prefill, together with other arrivals -> a pass a step, together with all -> reply

Not thread-safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from lithophone.decode.beam import BeamGroup
from lithophone.decode.ctc_scorer import CTCScorer
from lithophone.decode.options import BeamSearch, Greedy, Sampling, Speculative, check_whole
from lithophone.decode.reply import Reply, reply_budget
from lithophone.decode.sequences import DraftedSequence, RunningBatch, SampledSequence, SequenceGroup
from lithophone.errors import OptionError
from lithophone.model.cuda_graphs import static_steps
from lithophone.model.lora import has_lora
from lithophone.model.speech import GraniteSpeech

Options: TypeAlias = Greedy | Speculative | Sampling | BeamSearch
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class DecodeRequest:
    """Prompt embeddings `(L, H)`, `n_audio` of them of audio, and how to decode.

    `draft`: token ids for Speculative. `scorer`: for `ctc_weight`. `expected_labels`: as in
    `token_budget`. Raises OptionError for a draft without Speculative, and for a decoder without a prompt.
    """

    prompt: Tensor
    n_audio: int
    options: Options
    draft: Sequence[int] = ()
    scorer: CTCScorer | None = None
    expected_labels: int = 0

    def __post_init__(self) -> None:
        name = type(self.options).__name__
        if not isinstance(self.options, Options):
            raise OptionError(f"{name} decodes no prompt: Greedy, Speculative, Sampling and BeamSearch do")
        if len(self.draft) and not isinstance(self.options, Speculative):
            raise OptionError(f"a draft was given to {name}: only Speculative reads it")


def row_count(options: Options) -> int:
    return options.num_beams if isinstance(options, BeamSearch) else 1


class Scheduler:
    """Decodes requests with at most `max_rows` rows a pass, one per beam.

    `folds[id]`: a token's text for draft alignment, lower case without punctuation and spaces; None aligns ids. With
    LoRA adapters requests with and without audio take turns.

    `fixed`: static shapes, captured as CUDA graphs on a GPU; None: on a GPU without adapters, whose passes are of two
    kinds.
    """

    def __init__(
        self, model: GraniteSpeech, max_rows: int, folds: Sequence[str] | None = None, *, fixed: bool | None = None
    ) -> None:
        check_whole("max_rows", max_rows)
        assert folds is None or len(folds) >= model.config.text_config.vocab_size, "a text for every token"
        self.model, self.max_rows = model, max_rows
        self.fold = chr if folds is None else folds.__getitem__
        self.adapted = has_lora(model)
        self.waiting: deque[SequenceGroup] = deque()
        lm = model.language_model
        if fixed is None:
            fixed = lm.model.norm.weight.device.type == "cuda" and not self.adapted
        assert not (fixed and self.adapted), "captured passes have their adapters on, or off, for good"
        self.batch = RunningBatch(lm, steps=static_steps(lm, max_rows, self) if fixed else None)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.batch.groups)

    @property
    def room(self) -> int:
        """Rows that neither running nor waiting requests need."""
        return max(self.max_rows - _rows(self.batch.groups) - _rows(self.waiting), 0)

    def submit(self, request: DecodeRequest) -> SequenceGroup:
        """Queue a request; it is `done` at once where the prompt leaves no position for a reply.

        Raises OptionError where `num_beams` exceeds `max_rows`.
        """
        group = self._group(request)
        if group.max_rows > self.max_rows:
            raise OptionError(f"num_beams is {group.max_rows}: a pass has {self.max_rows} rows (max_rows) at most")
        if not group.done:
            self.waiting.append(group)
        return group

    @torch.inference_mode()
    def cancel(self, group: SequenceGroup) -> None:
        """Drop a waiting or running request; no effect once it is done."""
        if group in self.waiting:
            self.waiting.remove(group)
        self.batch.drop([group])

    @torch.inference_mode()
    def step(self) -> None:
        """Prefill waiting requests that fit, then advance all rows by a pass; those done leave.

        Where the model raises, cancel the requests: their state is undefined.
        """
        arrivals = self._arrivals()
        with self._adapters([*self.batch.groups, *arrivals]):
            if arrivals:
                self._admit(arrivals)
            if self.batch.groups:
                self.batch.advance()

    def run(self, requests: Iterable[tuple[Key, DecodeRequest]]) -> Iterator[tuple[Key, Reply]]:
        """Decode keyed requests, read as there is room; yield replies as they finish.

        Runs may be interleaved; a closed or failed run cancels its rows.
        """
        coming, mine, more = iter(requests), dict[SequenceGroup, Key](), True
        try:
            while more or mine:
                more = more and self._pull(coming, mine)
                self.step()
                for group in [group for group in mine if group.done]:
                    yield mine.pop(group), group.reply()
        finally:
            for group in mine:
                self.cancel(group)

    def _pull(self, coming: Iterator[tuple[Key, DecodeRequest]], mine: dict[SequenceGroup, Key]) -> bool:
        """Submit while there is room; False when requests are used up."""
        for _ in range(self.room):
            if not self.room:
                break
            following = next(coming, None)
            if following is None:
                return False
            mine[self.submit(following[1])] = following[0]
        return True

    def _group(self, request: DecodeRequest) -> SequenceGroup:
        config, options = self.model.config.text_config, request.options
        assert all(0 <= token < config.vocab_size for token in request.draft), "a draft is made of the model's tokens"
        budget = reply_budget(self.model, len(request.prompt), options, request.n_audio, request.expected_labels)
        common = (request.prompt, request.n_audio > 0, budget, config.eos_token_id)
        if isinstance(options, BeamSearch) or (isinstance(options, Greedy) and options.ctc_weight):
            return BeamGroup(*common, options, request.scorer)
        if isinstance(options, Sampling):
            return SampledSequence(*common, options)
        speculative = options if isinstance(options, Speculative) else Speculative()
        return DraftedSequence(*common, request.draft, speculative, self.fold)

    def _arrivals(self) -> list[SequenceGroup]:
        arrivals: list[SequenceGroup] = []
        room = self.max_rows - _rows(self.batch.groups)
        while self.waiting and self.waiting[0].max_rows <= room:
            company = self.batch.groups or arrivals
            if self.adapted and company and company[0].audio != self.waiting[0].audio:
                break
            room -= self.waiting[0].max_rows
            arrivals.append(self.waiting.popleft())
        return arrivals

    def _admit(self, arrivals: list[SequenceGroup]) -> None:
        batch = RunningBatch(self.model.language_model, arrivals)
        batch.prefill()
        self.batch.join(batch)

    def _adapters(self, groups: list[SequenceGroup]) -> AbstractContextManager[None]:
        return self.model.adapters(groups[0].audio) if self.adapted and groups else nullcontext()


def _rows(groups: Iterable[SequenceGroup]) -> int:
    return sum(group.max_rows for group in groups)


def decode_batch(
    model: GraniteSpeech,
    prompts: Sequence[Tensor],
    options: Options,
    n_audio: Sequence[int],
    drafts: Sequence[Sequence[int]] | None = None,
    folds: Sequence[str] | None = None,
    scorers: Sequence[CTCScorer] | None = None,
) -> list[Reply]:
    """Decode prompt embeddings `(L_i, H)`, `n_audio[i]` of them of audio; replies in their order.

    `drafts`, `scorers` as in `DecodeRequest`, `folds` as in `Scheduler`.
    """
    requests = [DecodeRequest(prompt, n, options) for prompt, n in zip(prompts, n_audio, strict=True)]
    if drafts is not None:
        requests = [replace(request, draft=draft) for request, draft in zip(requests, drafts, strict=True)]
    if scorers is not None:
        requests = [replace(request, scorer=scorer) for request, scorer in zip(requests, scorers, strict=True)]
    scheduler = Scheduler(model, max(len(requests) * row_count(options), 1), folds)
    groups = [scheduler.submit(request) for request in requests]
    while scheduler.busy:
        scheduler.step()
    return [group.reply() for group in groups]
