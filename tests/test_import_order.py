"""The import order in docs/concepts.md is the one that import-linter enforces.

`python tests/test_import_order.py --write` writes it there again.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "concepts.md"
BLOCK = re.compile(r"(?<=--write -->\n)```\n.*?```\n(?=<!-- end of rooms -->)", re.DOTALL)


def order(layers: Sequence[str], rooms: set[str]) -> Iterator[str]:
    """One line a layer, without the rooms in brackets that are not there yet."""
    for layer in layers:
        names = [name.strip(" ()") for name in layer.split("|")]
        if present := [name for name in names if name in rooms]:
            yield " | ".join(present)


def block() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (rule["layers"] for rule in project["tool"]["importlinter"]["contracts"] if rule["type"] == "layers")
    rooms = {path.stem for path in (ROOT / "src" / "slatewise").iterdir()}
    return "\n".join(["```", *order(layers, rooms), "```\n"])


def test_the_page_shows_the_import_order_that_is_enforced() -> None:
    assert BLOCK.findall(PAGE.read_text("utf-8")) == [block()], "python tests/test_import_order.py --write"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["cli", "(loop) | sim | (api)", "(later)"], ["cli", "sim"]),
        (["types | errors"], ["types | errors"]),
    ],
)
def test_rooms_to_come_are_left_out(layers: list[str], expected: list[str]) -> None:
    assert list(order(layers, {"cli", "sim", "types", "errors"})) == expected


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    PAGE.write_text(BLOCK.sub(lambda _: block(), PAGE.read_text("utf-8")), "utf-8")
