"""Tables of scores on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from lithophone.cli import terminal

if TYPE_CHECKING:
    from lithophone.evaluation.summary import Comparison, Evaluation, System
    from lithophone.evaluation.tables import Grid


def show(
    systems: Sequence[System], evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], level: float
) -> None:
    """Tables of rates, measures, durations and paired tests, then speed and normaliser names.

    level: of the intervals.
    """
    from lithophone.evaluation import tables

    scored = {system.name: evaluation for system, evaluation in zip(systems, evaluations, strict=True)}
    measures = tables.measures_grid(scored)
    terminal.print_table(table(tables.rates_grid(scored)))
    if len(measures.headings) > measures.text_columns:
        terminal.print_table(table(measures))
    terminal.print_table(table(tables.durations_grid(scored)))
    if comparisons:
        terminal.print_table(table(tables.comparisons_grid(comparisons)))
    notes = tables.few_clips_lines(scored, comparisons, level)
    for line in notes + tables.speed_lines(scored) + tables.normalizer_lines(scored):
        print(line)


def table(grid: Grid) -> Table:
    """A rich table without line wrapping."""
    drawn = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(grid.headings):
        drawn.add_column(heading, justify="left" if number < grid.text_columns else "right", no_wrap=True)
    for number, row in enumerate(grid.rows):
        drawn.add_row(*row, style="bold" if number in grid.emphasized else "")
    return drawn
