"""One paper a file: the experiment in independent cells, its table "published | ours | interval", its figures.

A paper's module has

    TITLE: str                                         what is reproduced, in one line
    cells(*, quick, seed_base) -> list[Cell]           what has to be computed
    run(cell) -> dict                                  one of them; numbers, texts and lists only
    tell(results, *, quick, seed_base) -> Story        rows, checks and figures from all results, by the cells' names

A finished cell is kept under a digest of its settings, of the code that its paper imports or may find by name, and of
the versions of torch and numpy; a change of any of them computes it anew.
"""

from slatewise.reproduce._cells import Cell, reproduce
from slatewise.reproduce._story import Provenance, Row, Story, story_json, story_text

__all__ = [
    "Cell",
    "Provenance",
    "Row",
    "Story",
    "reproduce",
    "story_json",
    "story_text",
]
