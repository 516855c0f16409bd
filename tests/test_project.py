"""What the texts of the project promise, held against the project."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from slatewise.config import components, find, nested_configs

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_lists_the_methods_and_encoders_there_are(readme: str) -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", text(readme), re.MULTILINE)) == components("methods")
    for encoder in components("encoders"):
        assert f"`{encoder}`" in text(readme)


def test_both_readmes_give_the_same_commands_and_links() -> None:
    english, chinese = (
        [
            re.sub(r"\s*#.*", "", block)
            for block in re.findall(r"^```\n(.*?)^```", text(readme), re.MULTILINE | re.DOTALL)
        ]
        for readme in READMES
    )
    assert [block.split("→")[0].split("…")[0] for block in english] == [
        block.split("→")[0].split("…")[0] for block in chinese
    ]
    pages = [sorted(set(re.findall(r"\]\(([^)]+)\)", text(readme))) - set(READMES)) for readme in READMES]
    assert pages[0] == pages[1]


def test_settings_in_the_pages_of_methods_are_settings_of_the_method() -> None:
    pages = [page for page in (ROOT / "docs" / "papers").glob("*.md") if page.stem in components("methods")]
    assert pages
    for page in pages:
        settings = setting_names(find("methods", page.stem).Config)
        table = page.read_text(encoding="utf-8").partition("| Setting |")[2].partition("\n\n")[0]
        listed = set(re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))))
        assert listed, page.name
        assert listed <= settings, f"{page.name}: {sorted(listed - settings)}"


def setting_names(config: type[Any]) -> set[str]:
    """Names as `--set method.NAME=…` takes them: those of a table inside the table with a point."""
    nested = nested_configs(config)
    return {field.name for field in dataclasses.fields(config)} | {
        f"{name}.{inner}" for name, kind in nested.items() for inner in setting_names(kind)
    }


def test_modules_named_on_the_pages_of_papers_exist() -> None:
    """A page says where an equation is: `methods.fcpo.trust_region.constrained_step`, `nn/softmax.py`."""
    package = ROOT / "src" / "slatewise"
    rooms = {path.stem for path in package.iterdir()}
    for page in (ROOT / "docs" / "papers").glob("*.md"):
        for name in re.findall(r"`([a-z_]+(?:[./]\w+)+)`", page.read_text(encoding="utf-8")):
            room = re.split(r"[./]", name)[0]
            if "/" in name and room in rooms:
                assert (package / name).exists(), f"{page.name}: {name}"
            elif room in rooms or name.count(".") > 1:
                resolve_name(f"slatewise.{name}")  # ImportError or AttributeError where there is no such thing


@pytest.mark.parametrize("readme", [*READMES, "CONTRIBUTING.md"])
def test_links_lead_somewhere(readme: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", text(readme)):
        assert (ROOT / link).exists(), link


def test_make_alone_prints_one_line_of_help_for_every_target() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", text("Makefile"), re.MULTILINE)
    assert targets is not None
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert sorted(line.split()[1] for line in shown) == sorted(targets[1].split())
    assert all(len(line.split()) > 3 for line in shown)


def test_targets_named_in_the_texts_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    for page in [*READMES, "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"(?:`|^)make ([a-z]+)", text(page), re.MULTILINE):
            assert target in targets, f"{page}: make {target}"


def test_only_the_chinese_readme_is_not_in_english() -> None:
    kept = {".py", ".md", ".toml", ".html", ".css", ".js", ".svg", ".yml", ".yaml"}
    folders = [ROOT / name for name in ("src", "docs", "bench", "examples", "configs")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in kept]
    files += [path for path in ROOT.iterdir() if path.suffix in kept and path.name != "README.zh.md"]
    made_here = {ROOT / "bench" / "results", ROOT / "bench" / ".peers"}
    files = [path for path in files if not made_here & set(path.parents)]
    assert len(files) > 50
    for path in files:
        assert re.search(r"[\u3400-\u9fff]", path.read_text(encoding="utf-8")) is None, path


class _Loaded(HTMLParser):
    """What a page loads by itself."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "data"} or (name == "href" and tag == "link"):
                self.found.append(value or "")


def test_the_pages_build_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= 10
    for page in pages:
        for link in _Loaded(page.read_text(encoding="utf-8")).found:
            assert not re.match(r"(https?:)?//", link), f"{page.name}: {link}"
