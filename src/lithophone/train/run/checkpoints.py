"""Where a run stands, on disk: `last.pt` of one process, or a folder that all ranks of a sharded run write together.

Both hold tensors by name, and both appear whole or not at all. Any number of ranks reads either, sharded or not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from lithophone.errors import CheckpointError
from lithophone.files import replacing
from lithophone.train.run.distributed import own_place, wait_for_all
from lithophone.train.run.fsdp import shard_like

FILE = "last.pt"
FOLDERS = "last-[0-9]*"
SHOWN = 3


def write_file(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write beside `last.pt` and rename: a reader finds the old file or the new one. Older folders are removed."""
    with replacing(folder / FILE, sync=True, one_writer=True) as part, part.open("wb") as file:
        torch.save(dict(tensors), file)
    _remove_folders(folder)


def write_folder(tensors: Mapping[str, Tensor], folder: Path, step: int) -> None:
    """All ranks write their slices to `last-<step>`; once it is whole it has its name, and what is older is removed."""
    final = folder / f"last-{step:07}"
    part = final.with_suffix(".part")
    leads = own_place()[0] == 0
    if leads:
        shutil.rmtree(part, ignore_errors=True)
    wait_for_all()
    save(dict(tensors), checkpoint_id=part)
    wait_for_all()
    if leads:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
        _remove_folders(folder, final)
        (folder / FILE).unlink(missing_ok=True)
    wait_for_all()


def read_newest(tensors: dict[str, Tensor], folder: Path, everything: Collection[str]) -> bool:
    """Fill `tensors` in place from the folder's checkpoint; False if there is none.

    `everything` names the whole state of the model: files of version 0 held it all, trained or not.
    Raises CheckpointError where the names or shapes of a checkpoint are not those of `tensors`.
    """
    path = folder / FILE
    if path.exists():
        found = torch.load(path, map_location="cpu", weights_only=True)
        if "optimizer" in found:
            found = _from_version_0(found, tensors, everything, path)
        _check({name: tuple(tensor.shape) for name, tensor in found.items()}, tensors, path)
        _fill(tensors, found)
        return True
    finished = [path for path in _folders(folder) if path.suffix != ".part"]
    if not finished:
        return False
    path = max(finished)
    metadata = FileSystemReader(path).read_metadata().state_dict_metadata
    _check({name: tuple(entry.size) for name, entry in metadata.items()}, tensors, path)  # type: ignore[union-attr]
    load(tensors, checkpoint_id=path, no_dist=not dist.is_initialized())
    return True


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(shard_like(found[name], tensor) if isinstance(tensor, DTensor) else found[name])


def _check(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless a checkpoint holds exactly what this run trains."""
    both = found.keys() & wanted.keys()
    problems = {
        "are missing": wanted.keys() - found.keys(),
        "are not part of this run": found.keys() - wanted.keys(),
        "have other shapes": {name for name in both if found[name] != tuple(wanted[name].shape)},
    }
    told = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if told:
        raise _other_run(path, f"of its tensors, {' and '.join(told)}")


def _other_run(path: Path, difference: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is of a run that trained something else: {difference}. Go on with the options it was started with, or "
        "begin in another folder"
    )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _folders(folder: Path) -> list[Path]:
    """What sharded runs wrote, whole or not; files of the same names, copies that somebody kept, are not ours."""
    return [path for path in folder.glob(FOLDERS) if path.is_dir()]


def _remove_folders(folder: Path, *but: Path) -> None:
    for path in _folders(folder):
        if path not in but:
            shutil.rmtree(path)


def _from_version_0(
    state: Mapping[str, Any], tensors: Mapping[str, Tensor], everything: Collection[str], path: Path
) -> dict[str, Tensor]:
    """The names of today for a file that lists tensors in the order of the model's parameters.

    It holds the whole state of the model and its average: what this run holds still is left out.
    """
    masters, moments = state["optimizer"]["masters"], state["optimizer"]["adam"]["state"]
    names = [name.removeprefix("exp_avg.") for name in tensors if name.startswith("exp_avg.")]
    if len(names) != len(masters):
        raise _other_run(path, f"it has {len(masters)} weights, here are {len(names)}")
    trained = {name.removeprefix("exact.") for name in tensors if name.startswith("exact.")}
    still = set(everything) - trained
    found = {f"exact.{name}": tensor for name, tensor in state["model"].items() if name not in still}
    found |= {f"average.{name}": tensor for name, tensor in state["average"]["tensors"].items() if name not in still}
    found |= {f"exact.{name}": master for name, master in zip(names, masters, strict=True)}
    matrices_first = sorted(range(len(masters)), key=lambda i: masters[i].ndim <= 1)
    for place, i in enumerate(matrices_first):
        zero = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(masters[i])}
        known = moments.get(place, zero | {"exp_avg_sq": torch.zeros_like(masters[i])})
        found |= {f"{kind}.{names[i]}": tensor for kind, tensor in known.items()}
    found["steps"] = torch.tensor([state["step"], state["average"]["updates"]])
    found["seconds_seen"] = torch.tensor(state["seconds_seen"], dtype=torch.float64)
    found["sums"] = torch.zeros_like(tensors["sums"])
    return found
