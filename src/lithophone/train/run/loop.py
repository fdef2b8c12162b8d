"""The training loop: one step after another, on a CPU, a GPU or several, resumable at any moment.

A recipe gives the model, the batches and a function from batch to losses; the loop owns precision, accumulation over
batches and ranks, the optimiser, the running average, the log and the checkpoints. Only what trains is averaged and
written: a frozen language model is neither.

How the rows of a step are spread over accumulated batches and ranks changes nothing but what is drawn at random and
batch normalisation: it sees one batch of one rank at a time, and its running statistics are averaged over ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lithophone.errors import OptionError
from lithophone.model.gradient_checkpointing import recompute_layers
from lithophone.train.run.checkpoints import read_newest, write_file, write_folder
from lithophone.train.run.distributed import (
    agree,
    average_statistics,
    copy_from_first,
    own_place,
    sum_gradients,
    sum_over_ranks,
)
from lithophone.train.run.fsdp import Sharded, gathered, shard_like
from lithophone.train.run.log import Journal
from lithophone.train.run.optim import Average, LearningRate, MasterAdamW
from lithophone.train.targets.losses import Loss

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


class TrainingBatch(Protocol):
    """What the loop must know of a batch: where it lies, and how much speech it holds."""

    @property
    def seconds(self) -> float: ...

    def to(self, device: torch.device | str) -> Self: ...


AnyBatch = TypeVar("AnyBatch", bound=TrainingBatch)
T = TypeVar("T")

HEARD = "seconds of audio"


@dataclass(frozen=True)
class LoopOptions:
    """How to train. `precision` is the model's type while computing; weights and averages are kept in float32."""

    schedule: LearningRate
    folder: Path
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    max_norm: float = 2.0
    average_decay: float = 0.999
    log_every: int = 20
    save_every: int = 200
    evaluate_every: int = 500
    leads: bool = True
    """Whether this process writes the log and the checkpoints; exactly one of all ranks does."""
    accumulate: int = 1
    """Batches that make one step."""
    shard: bool = False
    """Whether every rank holds a slice of the weights and of all that belongs to them, instead of a copy."""
    gradient_checkpointing: bool = False
    """Whether layers compute again in the backward pass what they would otherwise keep."""
    tensorboard: bool = False
    """Whether event files are written beside the log."""

    def __post_init__(self) -> None:
        for name in ("accumulate", "log_every", "save_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}: at least 1 is needed")


class Trainer(Generic[AnyBatch]):
    """A run: the model and everything that changes while it is trained. `weights` names each loss's share.

    The gradient of a step is that of every loss's mean over all its targets, in all accumulated batches of all ranks.
    Losses share weights, so gradients cannot be set right afterwards: the counts of all batches must be known before
    the first backward pass. `counts` tells a batch's (by the names of its losses); without it a step of several batches
    first goes through them without gradients, which is exact too, but costs a forward pass more.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Callable[[AnyBatch], Mapping[str, Loss]],
        weights: Mapping[str, float],
        options: LoopOptions,
        counts: Callable[[AnyBatch], Mapping[str, float]] | None = None,
    ) -> None:
        model.to(options.device)
        copy_from_first(model)
        if options.gradient_checkpointing:
            recompute_layers(model)
        masters = [p.detach().clone().float() for p in model.parameters() if p.requires_grad]
        self.model = cast_for_compute(model, options.precision)
        self.sharded = Sharded(model, options.device) if options.shard else None
        parameters = [p for p in model.parameters() if p.requires_grad]
        if self.sharded:
            masters = [shard_like(master, p) for master, p in zip(masters, parameters, strict=True)]
        self.optimizer = MasterAdamW(parameters, masters)
        self.losses = losses
        self.weights = dict(weights)
        self.options = options
        self.counts = counts
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.exact = self._exact()
        self.statistics = [t for name, t in self.exact.items() if name not in self.names and t.is_floating_point()]
        self.average = Average(self.exact, options.average_decay)
        self.step = 0
        self.seconds_seen = 0.0
        self.sums: dict[str, float] = {}
        """Each loss, summed over the steps since the last report."""
        options.folder.mkdir(parents=True, exist_ok=True)
        self.journal = None
        if options.leads:
            self.journal = Journal(options.folder, options.schedule.steps, tensorboard=options.tensorboard)

    @property
    def batches_seen(self) -> int:
        """How many batches this rank has used: where the batches of a resumed run have to start."""
        return self.step * self.options.accumulate

    def run(
        self,
        batches: Iterable[AnyBatch],
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        stop: Callable[[Mapping[str, float]], bool] | None = None,
    ) -> None:
        """Train until the schedule ends; call `evaluate` with the averaged weights in place every now and then.

        After each evaluation `stop` is asked, with its values, whether that was enough: rank 0's answer counts for all.
        A run that goes on tells `stop` the earlier evaluations first, so that it knows what it knew.
        """
        options, pace = self.options, _Pace()
        evaluated, ended = self._start(stop)
        rest = iter(batches)
        while not ended and self.step < options.schedule.steps and (some := list(islice(rest, options.accumulate))):
            before = self.seconds_seen
            norm, means = self.train_step(*(batch.to(options.device) for batch in some))
            pace.seen(self.seconds_seen - before)
            for name, mean in means.items():
                self.sums[name] = self.sums.get(name, 0.0) + mean / options.log_every
            if self.step % options.log_every == 0:
                rate = options.schedule.at(self.step - 1)
                self.record({**self.sums, "norm": norm, "lr": rate, "audio_s_per_s": pace.speed()})
                self.sums = {}
            evaluated = evaluate is not None and self.step % options.evaluate_every == 0
            if evaluate and evaluated:
                ended = self._evaluate(evaluate, stop)
                pace = _Pace()
            if self.step % options.save_every == 0 or ended:
                self.save()
        if not ended and self.step % options.save_every != 0:
            self.save()
        if evaluate and not evaluated:
            self._evaluate(evaluate, None)

    def train_step(self, *batches: AnyBatch) -> tuple[float, dict[str, float]]:
        """One update by all these batches; gives the gradient's norm, and the mean of every loss over all ranks."""
        self.model.train()
        told = self._count(batches) if len(batches) > 1 else None
        counts = None if told is None else self._over_ranks(told)
        seen: dict[str, float] = {}
        sums: dict[str, float] = {}
        for place, batch in enumerate(batches):
            totals, found = self._forward(place, batch)
            counts = self._over_ranks(found) if counts is None else counts
            self._backward(totals, counts)
            _add(seen, found)
            _add(sums, {name: float(total.detach()) for name, total in totals.items()})
        if told is not None and told != seen:
            raise OptionError(f"{told} targets were counted, but the losses had {seen}: both have to be the same")
        if not self.sharded:
            sum_gradients(self.optimizer.masters)
        norm = self.optimizer.step(self.options.schedule.at(self.step), self.options.max_norm)
        average_statistics(self.statistics)
        self.step += 1
        self.average.update(self.exact)
        sums = self._over_ranks({**sums, HEARD: sum(batch.seconds for batch in batches)})
        self.seconds_seen += sums.pop(HEARD)
        assert counts is not None
        return norm, {name: total / max(counts[name], 1.0) for name, total in sums.items()}

    def with_average(self, evaluate: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Run `evaluate` in eval mode with the averaged weights, then put the trained ones back."""
        state = self.model.state_dict()
        kept = {name: state[name].clone() for name in self.average.tensors}
        try:
            _copy_into(state, self.average.tensors)
            self.model.eval()
            # Weights that FSDP gathers in inference mode could not be trained afterwards.
            with torch.no_grad() if self.sharded else torch.inference_mode():
                return self._inside(evaluate)
        finally:
            if self.sharded:
                self.sharded.let_go()
            _copy_into(state, kept)

    def averaged_state(self) -> dict[str, Tensor]:
        """The state of the whole model by name, averaged and float32 where it trains, as it is elsewhere.

        All ranks of a sharded run must ask.
        """
        state = {**self.model.state_dict(), **self.average.tensors}
        return {name: gathered(tensor) for name, tensor in state.items()}

    def record(self, values: Mapping[str, float], kind: str = "train") -> Mapping[str, float]:
        """Tell of `train` or `dev` values, in `log.jsonl` and the library's log; gives them as they were told."""
        return self.journal.record(kind, self.step, self.seconds_seen, values) if self.journal else values

    def save(self) -> None:
        """Write `last.pt`, or the folder of a sharded run: all of it, or nothing."""
        if self.sharded:
            write_folder(self._tensors(), self.options.folder, self.step)
        elif self.options.leads:
            write_file(self._tensors(), self.options.folder)

    def resume(self) -> bool:
        """Go on from the last checkpoint of the folder, if there is one; a CheckpointError if another run wrote it.

        What the log tells of later steps is dropped: they are done again.
        """
        tensors = self._tensors()
        found = read_newest(tensors, self.options.folder, self.model.state_dict().keys())
        if found:
            self.optimizer.write()
            self.step, self.average.updates = tensors["steps"].tolist()
            self.seconds_seen = float(tensors["seconds_seen"])
            values, told = tensors["sums"].tolist()
            self.sums = {name: value for name, value, known in zip(self.weights, values, told, strict=True) if known}
        if self.journal:
            self.journal.rewind(self.step)
        return found

    def _start(self, stop: Callable[[Mapping[str, float]], bool] | None) -> tuple[bool, bool]:
        """Whether this step has been evaluated already, and whether an evaluation was enough."""
        earlier = []
        if self.journal:
            self.journal.start(self.step)
            earlier = self.journal.evaluations()
        enough = stop is not None and any([stop(values) for _, values in earlier])
        evaluated = any(step == self.step for step, _ in earlier)
        return agree(evaluated, self.options.device), agree(enough, self.options.device)

    def _evaluate(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        stop: Callable[[Mapping[str, float]], bool] | None,
    ) -> bool:
        """Evaluate and tell; gives whether that was enough."""
        values = self.record(self.with_average(evaluate), "dev")
        return agree(stop is not None and stop(values), self.options.device)

    def _inside(self, call: Callable[[], T]) -> T:
        """Call what computes with the model where its weights are whole."""
        return self.sharded(call) if self.sharded else call()

    def _forward(self, place: int, batch: AnyBatch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Sums and counts of a batch's losses; what is drawn at random depends on its step, place and rank alone."""
        rank, world = own_place()
        torch.manual_seed((self.batches_seen + place) * world + rank)
        return self._inside(lambda: _sums_and_counts(self.losses(batch)))

    def _count(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        """The targets of this rank's batches, before any gradient."""
        told: dict[str, float] = {}
        self.model.eval()  # or statistics of batch normalisation would take every batch twice
        with torch.no_grad():
            for place, batch in enumerate(batches):
                _add(told, self.counts(batch) if self.counts else self._forward(place, batch)[1])
        self.model.train()
        return told

    def _backward(self, totals: Mapping[str, Tensor], counts: Mapping[str, float]) -> None:
        """Add to the gradients those of the weighted sum of totals, each divided by its count."""
        parts = [self.weights[name] * total / max(counts[name], 1.0) for name, total in totals.items()]
        loss = torch.stack([part.float() for part in parts]).sum()
        # Sharded gradients come as the mean over ranks, and are to be the sum.
        (loss * own_place()[1] if self.sharded else loss).backward()  # type: ignore[no-untyped-call]
        self.optimizer.collect()

    def _over_ranks(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sums of all ranks, which have the same names in the same order."""
        mine = torch.tensor(list(values.values()), dtype=torch.float64).to(self.options.device)
        return dict(zip(values, sum_over_ranks(mine).tolist(), strict=True))

    def _exact(self) -> dict[str, Tensor]:
        """What trains, by name: the float32 masters, and the buffers of modules with a weight that trains."""
        masters = dict(zip(map(id, self.optimizer.parameters), self.optimizer.masters, strict=True))
        found = {
            name: masters[id(p)] for name, p in self.model.named_parameters(remove_duplicate=False) if p.requires_grad
        }
        known = self.model.state_dict()
        for path, module in self.model.named_modules():
            if any(p.requires_grad for p in module.parameters(recurse=False)):
                names = [f"{path}.{name}".lstrip(".") for name, _ in module.named_buffers(recurse=False)]
                found |= {name: known[name] for name in names if name in known}
        return found

    def _tensors(self) -> dict[str, Tensor]:
        """Where the run stands, by name: tensors in use, written as they are and read in place; numbers as tensors."""
        found = {f"exact.{name}": tensor for name, tensor in self.exact.items()}
        found |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        for name, moments in zip(self.names, self.optimizer.moments(), strict=True):
            found |= {f"{kind}.{name}": tensor for kind, tensor in moments.items()}
        told = [[self.sums.get(name, 0.0), float(name in self.sums)] for name in self.weights]
        found["sums"] = torch.tensor(told, dtype=torch.float64).T.contiguous()
        found["steps"] = torch.tensor([self.step, self.average.updates])
        found["seconds_seen"] = torch.tensor(self.seconds_seen, dtype=torch.float64)
        return found


class _Pace:
    """Seconds of audio a second."""

    def __init__(self) -> None:
        self.audio_s, self.since = 0.0, time.monotonic()

    def seen(self, audio_s: float) -> None:
        self.audio_s += audio_s

    def speed(self) -> float:
        """Since it was asked the last time."""
        speed = self.audio_s / max(1e-9, time.monotonic() - self.since)
        self.audio_s, self.since = 0.0, time.monotonic()
        return speed


def cast_for_compute(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast the model for computing; batch normalisation keeps float32 statistics and weights."""
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(dtype))
    return model


def _sums_and_counts(losses: Mapping[str, Loss]) -> tuple[dict[str, Tensor], dict[str, float]]:
    return {name: loss.total for name, loss in losses.items()}, {name: loss.count for name, loss in losses.items()}


def _add(sums: dict[str, float], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


def _copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
