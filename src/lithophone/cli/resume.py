"""The journal of an output folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lithophone.cli import terminal
from lithophone.cli.output import STDOUT
from lithophone.errors import JournalError, OptionError

if TYPE_CHECKING:
    from lithophone.pipeline.journal import Journal

JOURNAL = ".lithophone.jsonl"
"""Its name in the output folder."""

FORMER = ".lithophone.former.jsonl"
"""The journal of the run before, which was not resumed."""


def check_resume(resume: bool, output_dir: str) -> None:
    """OptionError where there is no folder for a journal."""
    if resume and output_dir == STDOUT:
        raise OptionError("--resume needs --output-dir: the journal is a file in that folder")


def open_journal(output_dir: str, resume: bool) -> Journal | None:
    """The journal of a folder, continued or new; None for the terminal.

    Without `resume` an older journal is renamed, and a run beside another one in the same folder has none.
    """
    if output_dir == STDOUT:
        return None
    from lithophone.pipeline.journal import Journal  # imports torch

    path = Path(output_dir, JOURNAL)
    try:
        journal = Journal(path)
    except JournalError:
        if resume:
            raise
        terminal.say_warning(f"another run has {path} open: this one cannot be resumed")
        return None
    if resume or journal.is_new:
        return journal
    if journal.n_open:
        terminal.say_warning(f"{path} is of a run that did not end; it is now {FORMER}. --resume would continue it")
    journal.close()
    os.replace(path, path.with_name(FORMER))
    return Journal(path)
