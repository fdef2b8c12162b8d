"""Training checkpoints: `last.pt` of one process, or a folder written by all ranks of a sharded run.

Both hold tensors by name, are written atomically, and are read by any number of ranks, sharded or not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from lithophone.errors import CheckpointError
from lithophone.files import replacing
from lithophone.train.run.distributed import rank_and_world, wait_for_all
from lithophone.train.run.fsdp import shard_like

FILE = "last.pt"
FOLDERS = "last-[0-9]*"
SHOWN = 3


def write_file(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Replace `last.pt` by a finished file, and remove older folders."""
    with replacing(folder / FILE, sync=True, one_writer=True) as part, part.open("wb") as file:
        torch.save(dict(tensors), file)
    _remove_folders(folder)


def write_folder(tensors: Mapping[str, Tensor], folder: Path, step: int) -> None:
    """All ranks write shards to `last-<step>`, named so once complete; older checkpoints are removed."""
    final = folder / f"last-{step:07}"
    part = final.with_suffix(".part")
    leads = rank_and_world()[0] == 0
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


def read_newest(tensors: dict[str, Tensor], folder: Path) -> bool:
    """Fill `tensors` in place from the folder's newest checkpoint; False if there is none.

    Raises CheckpointError where names or shapes differ.
    """
    path = folder / FILE
    if path.exists():
        found = torch.load(path, map_location="cpu", weights_only=True)
        strange = [name for name, tensor in found.items() if not isinstance(tensor, Tensor)]
        if strange:
            raise _other_run(path, f"it holds {', '.join(strange[:SHOWN])}, not tensors by name")
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
    """Raise CheckpointError unless names and shapes are those of this run."""
    both = found.keys() & wanted.keys()
    problems = {
        "are missing": wanted.keys() - found.keys(),
        "are not part of this run": found.keys() - wanted.keys(),
        "have other shapes": {name for name in both if found[name] != tuple(wanted[name].shape)},
    }
    differences = [f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names]
    if differences:
        raise _other_run(path, f"of its tensors, {' and '.join(differences)}")


def _other_run(path: Path, difference: str) -> CheckpointError:
    return CheckpointError(
        f"{path} belongs to another run: {difference}. Resume with the options of that run, or choose another folder"
    )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _folders(folder: Path) -> list[Path]:
    """Folders of sharded runs, complete or not; not files of such names."""
    return [path for path in folder.glob(FOLDERS) if path.is_dir()]


def _remove_folders(folder: Path, *but: Path) -> None:
    for path in _folders(folder):
        if path not in but:
            shutil.rmtree(path)
