"""A digest of what a cell's result depends on: code, shipped configurations, libraries.

Source text is parsed; nothing is imported. The digest covers

- every module of the package that the experiment imports, directly or not, wherever the import stands: its syntax tree
  without docstrings, comments and import statements, and the content behind the imported names that it uses;
- every component that may be found by name: a module `room/name.py` with a `Config`, where some module covered asks
  for one of the room (`config.find("room", …)`) and the name is a word of the cell's settings or of a string in the
  modules and configurations covered;
- every shipped TOML file whose name is such a word;
- the versions of torch and numpy.

Content counts, its place does not: the digest stays when a module moves and the imports of it follow. A component name
that is put together from parts of words is not seen; `reproduce` refuses a result for which a module was loaded that
the digest does not cover.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from slatewise.reproduce._syntax import Source, is_toml, parse, sha, words_of

LIBRARIES = ("numpy", "torch")


@dataclass(frozen=True, kw_only=True)
class Closure:
    """Everything that the result of a cell depends on, beside its settings."""

    digest: str
    modules: frozenset[str]
    """Names of the modules that the digest covers."""


class Code:
    """The code behind an experiment; each file is read once."""

    def __init__(self, root: str, folders: Mapping[str, Sequence[Path]], versions: Mapping[str, str]) -> None:
        """Index the files.

        Args:
            root: module of the experiment.
            folders: package → folders that hold its modules; first the package whose components are named without it.
            versions: of the libraries that do the arithmetic.
        """
        self._root, self._versions, self._package = root, dict(versions), next(iter(folders))
        self._files: dict[str, Path] = {}
        self._tables: list[Path] = []
        for package, places in folders.items():
            for place in places:
                self._files |= {_module_name(package, file.relative_to(place)): file for file in place.rglob("*.py")}
                self._tables += (file for file in place.rglob("*") if is_toml(file.name))
        self._sources: dict[str, Source] = {}
        self._digests: dict[str, str] = {}
        self._parts = {part for name in self._files for part in name.split(".")}
        self._closures: dict[frozenset[str], Closure] = {}

    @classmethod
    def of(cls, root: str) -> Code:
        """The code of an imported experiment: this package and, if it comes from another one, that."""
        packages = dict.fromkeys((__name__.split(".")[0], root.split(".", maxsplit=1)[0]))
        folders = {name: [Path(place) for place in sys.modules[name].__path__] for name in packages}
        return cls(root, folders, {name: metadata.version(name) for name in LIBRARIES})

    def closure(self, settings: Mapping[str, Any]) -> Closure:
        """What a cell with these settings depends on."""
        words = frozenset(word for word in words_of(settings) if word in self._parts or is_toml(word))
        if words not in self._closures:
            modules, tables = self._reach(set(words))
            parts = {
                "modules": sorted({self._digest(name) for name in modules if self._source(name).tree}),
                "tables": sorted(sha(json.dumps(table, sort_keys=True, default=str)) for table in tables),
                "versions": self._versions,
            }
            digest = sha(json.dumps(parts, sort_keys=True))
            self._closures[words] = Closure(digest=digest, modules=frozenset(modules))
        return self._closures[words]

    def _reach(self, words: set[str]) -> tuple[set[str], list[dict[str, Any]]]:
        """Modules and shipped configurations within reach; each of them may name more."""
        modules: set[str] = set()
        tables: dict[Path, dict[str, Any]] = {}
        reached = {self._root}
        while reached:
            while reached:
                name = reached.pop()
                if name in self._files and name not in modules:
                    modules.add(name)
                    reached |= self._source(name).loads
                    words |= self._source(name).words
            while shipped := self._named_tables(words) - set(tables):
                for path in shipped:
                    tables[path] = tomllib.loads(path.read_text(encoding="utf-8"))
                    words |= words_of(tables[path])
            reached = self._named_components(modules, words) - modules
        return modules, list(tables.values())

    def _named_tables(self, words: set[str]) -> set[Path]:
        endings = tuple(word for word in words if is_toml(word))
        return {path for path in self._tables if path.name.endswith(endings)}

    def _named_components(self, modules: set[str], words: set[str]) -> set[str]:
        finders = {function for name in modules for function in self._source(name).finders}
        rooms = {room for name in modules for function, room in self._source(name).calls if function in finders}
        components = set()
        for name in self._files:
            package, _, below = name.partition(".")
            room, _, component = below.rpartition(".")
            if package == self._package:
                is_named = component in words and not rooms.isdisjoint((room, "*"))
            else:  # another package's component is named in full
                is_named = words.issuperset(name.split("."))
            if is_named and "Config" in self._source(name).defines:
                components.add(name)
        return components

    def _digest(self, name: str) -> str:
        """Digest of one module. Of import statements it holds what the names stand for, not where that comes from."""
        if name not in self._digests:
            source = self._source(name)
            bindings = {
                f"{entry.local}.{attribute} = {self._content(entry.module, entry.attribute, attribute)}"
                for entry in source.imports
                for attribute in source.uses.get(entry.local, ())
            }
            self._digests[name] = sha("\n".join([source.tree, *sorted(bindings)]))
        return self._digests[name]

    def _content(self, module: str, *path: str) -> str:
        """The tree in which a name is defined, and the name; goes through packages that only pass names on."""
        attributes = [attribute for attribute in path if attribute]
        passed: set[tuple[str, ...]] = set()
        while attributes and module in self._files and (module, *attributes) not in passed:
            passed.add((module, *attributes))
            if f"{module}.{attributes[0]}" in self._files:
                module = f"{module}.{attributes.pop(0)}"
                continue
            for entry in self._source(module).imports:
                if entry.local == attributes[0]:
                    module, attributes[:1] = entry.module, [entry.attribute] if entry.attribute else []
                    break
        return " ".join([self._source(module).tree if module in self._files else module, *attributes])

    def _source(self, name: str) -> Source:
        if name not in self._sources:
            self._sources[name] = parse(name, self._files[name])
        return self._sources[name]


def _module_name(package: str, file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))
