"""Log of a run: rows of `log.jsonl`, lines of the library's log, optional TensorBoard event files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lithophone.errors import OptionError
from lithophone.files import write_whole

log = logging.getLogger(__name__)

PLACE = ("step", "hours", "kind")
"""Keys of a row that are not measurements."""


class RunLog:
    """Rows of a run of `steps` steps in `folder`, one per report or evaluation."""

    def __init__(self, folder: Path, steps: int, *, tensorboard: bool = False) -> None:
        self.path = folder / "log.jsonl"
        self.steps = steps
        self.events = _event_writer(folder / "tensorboard") if tensorboard else None
        self.start(0)

    def start(self, step: int) -> None:
        """Measure the remaining time from `step` on."""
        self.started_at, self.started_s = step, time.monotonic()

    def left_s(self, step: int) -> float | None:
        """Estimated seconds to the end, evaluations and checkpoints included; None before the first step."""
        done = step - self.started_at
        return (time.monotonic() - self.started_s) / done * (self.steps - step) if done > 0 else None

    def record(self, kind: str, step: int, seconds_seen: float, values: Mapping[str, float]) -> dict[str, float]:
        """Write a row of `kind` (`train`, `dev`); returns its numbers, rounded to six digits."""
        numbers = {name: float(f"{value:.6g}") for name, value in values.items()}
        row = {"step": step, "hours": round(seconds_seen / 3600, 3), "kind": kind, **numbers}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        log.info("%s", self.line(step, seconds_seen, numbers))
        if self.events:
            for name, value in numbers.items():
                self.events.add_scalar(f"{kind}/{name}", value, step)
            self.events.flush()
        return numbers

    def evaluations(self) -> list[tuple[int, dict[str, float]]]:
        """Steps and numbers of all `dev` rows."""
        rows = [row for row in self._rows() if row.get("kind") == "dev"]
        return [(row["step"], {name: row[name] for name in row if name not in PLACE}) for row in rows]

    def line(self, step: int, seconds_seen: float, numbers: Mapping[str, float]) -> str:
        """Row as text: progress, measurements, time left."""
        measured = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        left = self.left_s(step)
        end = "" if left is None else f"  {timedelta(seconds=round(left))} left"
        return f"step {step}/{self.steps}  {seconds_seen / 3600:.2f} h of audio  {measured}{end}"

    def rewind(self, step: int) -> None:
        """Drop rows after `step`, and an incomplete last line."""
        kept = [json.dumps(row) + "\n" for row in self._rows() if row["step"] <= step]
        write_whole(self.path, "".join(kept))
        if self.events:
            # Event files are never rewritten: purge_step hides later steps of earlier ones.
            self.events = _event_writer(self.path.parent / "tensorboard", purge_step=step + 1)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [row for row in map(_read_row, self.path.read_text(encoding="utf-8").splitlines()) if row]


def _read_row(line: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row


def _event_writer(folder: Path, purge_step: int | None = None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise OptionError("--tensorboard needs a package: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=purge_step)
