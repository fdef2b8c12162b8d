"""TED-LIUM, by segments."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lithophone.data.corpora.layout import Part, folders_with, not_the_set
from lithophone.data.manifest import Entry
from lithophone.data.nist import NOT_SCORED, stm_turns


def tedlium(folder: Path) -> list[Part]:
    """SPLIT/stm/TALK.stm and SPLIT/sph/TALK.sph of release 1, 2 or 3 (in `legacy`); lower case, no punctuation.

    Segments not scored are left out. Clitics are apart (`it 's`), `<unk>` is out of vocabulary.
    """
    # Release 3 has two partitions; the legacy test set is the usual one.
    legacy = [path for path in (folder / "legacy", *sorted(folder.glob("*/legacy"))) if path.is_dir()]
    splits = folders_with(legacy[0] if legacy else folder, "stm/*.stm", 2)
    if not splits:
        raise not_the_set(folder, "SPLIT/stm/*.stm with SPLIT/sph")
    return [Part(root.name, "en", partial(_tedlium_entries, root)) for root in splits]


def _tedlium_entries(split: Path) -> Iterator[Entry]:
    for path in sorted((split / "stm").glob("*.stm")):
        for talk, turns in stm_turns(path).items():
            for number, turn in enumerate(turns):
                if turn.text and turn.text != NOT_SCORED:
                    yield Entry(
                        split / "sph" / f"{talk}.sph",
                        turn.text,
                        "en",
                        turn.end_s - turn.start_s,
                        speaker=turn.speaker or "",
                        name=f"{talk}-{number}",
                        start_s=turn.start_s,
                        end_s=turn.end_s,
                    )
