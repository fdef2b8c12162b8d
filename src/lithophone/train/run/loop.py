"""Training loop of one or several processes, resumable after any step.

Frozen parameters are neither averaged nor written. Accumulation and ranks change only random draws and batch
normalisation, which sees one batch of one rank; its running statistics are averaged over ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lithophone.errors import OptionError
from lithophone.model.gradient_checkpointing import recompute_layers
from lithophone.train.run.checkpoints import read_newest, write_file, write_folder
from lithophone.train.run.distributed import (
    average_statistics,
    broadcast_bool,
    broadcast_parameters,
    rank_and_world,
    sum_gradients,
    sum_over_ranks,
)
from lithophone.train.run.fsdp import Sharded, gathered, shard_like
from lithophone.train.run.log import RunLog
from lithophone.train.run.optim import Average, LearningRate, MasterAdamW
from lithophone.train.targets.losses import Loss

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


class TrainingBatch(Protocol):
    """A batch with a duration in seconds."""

    @property
    def seconds(self) -> float: ...

    def to(self, device: torch.device | str) -> Self: ...


AnyBatch = TypeVar("AnyBatch", bound=TrainingBatch)
T = TypeVar("T")

AUDIO_SECONDS = "seconds of audio"


@dataclass(frozen=True)
class LoopOptions:
    """Options of a run. `precision`: dtype of computation; weights and averages are float32."""

    schedule: LearningRate
    folder: Path
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    factors: Mapping[str, float] = field(default_factory=dict)
    """Of the learning rate, for parameters whose names start so; the first that fits counts."""
    max_norm: float = 2.0
    average_decay: float = 0.999
    log_every: int = 20
    save_every: int = 200
    evaluate_every: int = 500
    leads: bool = True
    """Whether this rank writes log and checkpoints; exactly one does."""
    accumulate: int = 1
    shard: bool = False
    """Shard weights, gradients and optimiser state over ranks (FSDP2)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    tensorboard: bool = False
    """Write TensorBoard event files beside the log."""

    def __post_init__(self) -> None:
        for name in ("accumulate", "log_every", "save_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}: it must be 1 or more")

    def factor_of(self, name: str) -> float:
        """Factor of the learning rate of a parameter."""
        return next((factor for start, factor in self.factors.items() if name.startswith(start)), 1.0)


class Trainer(Generic[AnyBatch]):
    """A run: model and training state. `weights`: weight of each loss by name.

    `losses(batch, step)` gives sums and counts; `step`, the batch's number over all ranks ((batches seen) * world +
    rank), also seeds PyTorch for its forward pass.

    The gradient is that of each loss's mean over all targets of a step, over batches and ranks. Steps of several
    batches thus need their counts first: from `counts(batch)`, by loss name, or an extra forward pass without
    gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Callable[[AnyBatch, int], Mapping[str, Loss]],
        weights: Mapping[str, float],
        options: LoopOptions,
        counts: Callable[[AnyBatch], Mapping[str, float]] | None = None,
    ) -> None:
        model.to(options.device)
        broadcast_parameters(model)
        if options.gradient_checkpointing:
            recompute_layers(model)
        masters = [p.detach().clone().float() for p in model.parameters() if p.requires_grad]
        self.model = cast_for_compute(model, options.precision)
        self.sharded = Sharded(model, options.device) if options.shard else None
        parameters = [p for p in model.parameters() if p.requires_grad]
        if self.sharded:
            masters = [shard_like(master, p) for master, p in zip(masters, parameters, strict=True)]
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.optimizer = MasterAdamW(parameters, masters, factors=[options.factor_of(name) for name in self.names])
        self.losses = losses
        self.weights = dict(weights)
        self.options = options
        self.counts = counts
        self.exact = self._exact()
        self.statistics = [t for name, t in self.exact.items() if name not in self.names and t.is_floating_point()]
        self.average = Average(self.exact, options.average_decay)
        self.step = 0
        self.seconds_seen = 0.0
        self.sums: dict[str, float] = {}
        """Mean of each loss since the last report, summed so far."""
        options.folder.mkdir(parents=True, exist_ok=True)
        self.run_log = None
        if options.leads:
            self.run_log = RunLog(options.folder, options.schedule.steps, tensorboard=options.tensorboard)

    @property
    def batches_seen(self) -> int:
        """Batches this rank has used: the start of a resumed stream."""
        return self.step * self.options.accumulate

    def run(
        self,
        batches: Iterable[AnyBatch],
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        stop: Callable[[Mapping[str, float]], bool] | None = None,
    ) -> None:
        """Train to the end of the schedule; `evaluate` runs with averaged weights every `evaluate_every` steps.

        `stop` gets the values of each evaluation, after a resume the earlier ones first; True on rank 0 ends the run.
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
        """One update from these batches; returns gradient norm and each loss's mean over all ranks."""
        self.model.train()
        expected = self._count(batches) if len(batches) > 1 else None
        counts = None if expected is None else self._over_ranks(expected)
        seen: dict[str, float] = {}
        sums: dict[str, float] = {}
        for place, batch in enumerate(batches):
            totals, found = self._forward(place, batch)
            counts = self._over_ranks(found) if counts is None else counts
            self._backward(totals, counts)
            _add(seen, found)
            _add(sums, {name: float(total.detach()) for name, total in totals.items()})
        if expected is not None and expected != seen:
            raise OptionError(f"counts() gave {expected}, but the losses counted {seen}: both must agree")
        if not self.sharded:
            sum_gradients(self.optimizer.masters)
        norm = self.optimizer.step(self.options.schedule.at(self.step), self.options.max_norm)
        average_statistics(self.statistics)
        self.step += 1
        self.average.update(self.exact)
        sums = self._over_ranks({**sums, AUDIO_SECONDS: sum(batch.seconds for batch in batches)})
        self.seconds_seen += sums.pop(AUDIO_SECONDS)
        assert counts is not None
        return norm, {name: total / max(counts[name], 1.0) for name, total in sums.items() if counts[name]}

    def with_average(self, evaluate: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Run `evaluate` in eval mode with the averaged weights, then restore the trained ones."""
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
                self.sharded.reshard()
            _copy_into(state, kept)

    def averaged_state(self) -> dict[str, Tensor]:
        """The full state by name, averaged float32 where trained. A collective call when sharded."""
        state = {**self.model.state_dict(), **self.average.tensors}
        return {name: gathered(tensor) for name, tensor in state.items()}

    def record(self, values: Mapping[str, float], kind: str = "train") -> Mapping[str, float]:
        """Log `train` or `dev` values; returns them as rounded."""
        return self.run_log.record(kind, self.step, self.seconds_seen, values) if self.run_log else values

    def save(self) -> None:
        """Write `last.pt`, or the folder of a sharded run, atomically."""
        if self.sharded:
            write_folder(self._tensors(), self.options.folder, self.step)
        elif self.options.leads:
            write_file(self._tensors(), self.options.folder)

    def resume(self) -> bool:
        """Restore the folder's newest checkpoint and drop later log rows; False without a checkpoint.

        Raises CheckpointError for the checkpoint of another run.
        """
        tensors = self._tensors()
        found = read_newest(tensors, self.options.folder)
        if found:
            self.optimizer.write()
            self.step, self.average.updates = tensors["steps"].tolist()
            self.seconds_seen = float(tensors["seconds_seen"])
            values, present = tensors["sums"].tolist()
            self.sums = {name: value for name, value, known in zip(self.weights, values, present, strict=True) if known}
        if self.run_log:
            self.run_log.rewind(self.step)
        return found

    def _start(self, stop: Callable[[Mapping[str, float]], bool] | None) -> tuple[bool, bool]:
        """Whether this step is evaluated already, and whether an earlier evaluation ended the run."""
        earlier = []
        if self.run_log:
            self.run_log.start(self.step)
            earlier = self.run_log.evaluations()
        enough = stop is not None and any([stop(values) for _, values in earlier])
        evaluated = any(step == self.step for step, _ in earlier)
        return broadcast_bool(evaluated, self.options.device), broadcast_bool(enough, self.options.device)

    def _evaluate(
        self,
        evaluate: Callable[[], Mapping[str, float]],
        stop: Callable[[Mapping[str, float]], bool] | None,
    ) -> bool:
        """Evaluate and log; returns whether to stop."""
        values = self.record(self.with_average(evaluate), "dev")
        return broadcast_bool(stop is not None and stop(values), self.options.device)

    def _inside(self, call: Callable[[], T]) -> T:
        """Run `call` where sharded weights are gathered."""
        return self.sharded(call) if self.sharded else call()

    def _forward(self, place: int, batch: AnyBatch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Sums and counts of losses of batch number `place` of the step."""
        rank, world = rank_and_world()
        step = (self.batches_seen + place) * world + rank
        torch.manual_seed(step)
        return self._inside(lambda: _sums_and_counts(self.losses(batch, step)))

    def _count(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        """Counts of targets in this rank's batches."""
        found: dict[str, float] = {}
        self.model.eval()  # batch normalisation would count every batch twice
        with torch.no_grad():
            for place, batch in enumerate(batches):
                _add(found, self.counts(batch) if self.counts else self._forward(place, batch)[1])
        self.model.train()
        return found

    def _backward(self, totals: Mapping[str, Tensor], counts: Mapping[str, float]) -> None:
        """Accumulate the gradient of the weighted sum of totals over counts."""
        parts = [self.weights[name] * total / max(counts[name], 1.0) for name, total in totals.items()]
        loss = torch.stack([part.float() for part in parts]).sum()
        # FSDP averages gradients over ranks; the sum is needed.
        (loss * rank_and_world()[1] if self.sharded else loss).backward()  # type: ignore[no-untyped-call]
        self.optimizer.collect()

    def _over_ranks(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over ranks. A loss that no batch of a rank has counts as zero there; other names are on all ranks."""
        names = [*self.weights, *(name for name in values if name not in self.weights)]
        mine = torch.tensor([values.get(name, 0.0) for name in names], dtype=torch.float64).to(self.options.device)
        return dict(zip(names, sum_over_ranks(mine).tolist(), strict=True))

    def _exact(self) -> dict[str, Tensor]:
        """Trained tensors by name: float32 masters, and buffers of modules with a trained parameter."""
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
        """The run's state as tensors by name; those in use are read and written in place."""
        found = {f"exact.{name}": tensor for name, tensor in self.exact.items()}
        found |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        for name, moments in zip(self.names, self.optimizer.moments(), strict=True):
            found |= {f"{kind}.{name}": tensor for kind, tensor in moments.items()}
        sums = [[self.sums.get(name, 0.0), float(name in self.sums)] for name in self.weights]
        found["sums"] = torch.tensor(sums, dtype=torch.float64).T.contiguous()
        found["steps"] = torch.tensor([self.step, self.average.updates])
        found["seconds_seen"] = torch.tensor(self.seconds_seen, dtype=torch.float64)
        return found


class _Pace:
    """Seconds of audio per second."""

    def __init__(self) -> None:
        self.audio_s, self.since = 0.0, time.monotonic()

    def seen(self, audio_s: float) -> None:
        self.audio_s += audio_s

    def speed(self) -> float:
        """Since the last call."""
        speed = self.audio_s / max(1e-9, time.monotonic() - self.since)
        self.audio_s, self.since = 0.0, time.monotonic()
        return speed


def cast_for_compute(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast to `dtype`, except batch normalisation, whose weights and statistics stay float32."""
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
