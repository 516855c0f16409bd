"""The configuration of a run, typed to the leaf: TOML ↔ RunConfig."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from slatewise.config.components import find, name_of
from slatewise.config.origin import Origin
from slatewise.config.sections import DataConfig, EvaluateConfig, ItemsConfig, RetrievalConfig, ServeConfig, TrainConfig
from slatewise.config.tables import convert, dump_toml, override, read_toml, sections, to_table
from slatewise.errors import input_error
from slatewise.log import LogPart
from slatewise.protocols import ResolvesFromLog, Settings

C = TypeVar("C")
COMPONENTS = ("encoder", "method")
"""Tables that name a component beside its settings."""
SECTIONS = ("data", "items", "encoder", "method", "train", "retrieval", "evaluate", "serve")


@dataclass(frozen=True, kw_only=True)
class Component:
    """A method or an encoder: its name and its Config."""

    name: str
    """File name in methods/ or encoders/, or the dotted path of a third-party module."""
    settings: Settings

    def resolve(self, part: LogPart) -> Component:
        """With what the settings leave open filled in from the training part of a log."""
        if not isinstance(self.settings, ResolvesFromLog):
            return self
        return replace(self, settings=self.settings.resolve(part))

    def to_table(self) -> dict[str, object]:
        """As TOML holds it."""
        return {"name": self.name, **to_table(self.settings)}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on, as config.toml holds it."""

    method: Component
    encoder: Component
    data: DataConfig | None = None
    """None: what is trained reads no prepared data set (a policy that learned in memory)."""
    items: ItemsConfig = field(default_factory=ItemsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    origin: Origin = field(default_factory=Origin, compare=False, repr=False)
    """Where it was read from; config.toml does not hold it."""

    @classmethod
    def from_toml(cls, path: Path, assignments: Iterable[str] = ()) -> RunConfig:
        """Read a file, and put `a.b=value` assignments into it.

        Raises:
            InputError: no such file, not valid TOML, or a configuration that `from_tables` refuses.
        """
        return cls.from_tables(read_toml(path), assignments, where=str(path))

    @classmethod
    def from_tables(
        cls, values: Mapping[str, object], assignments: Iterable[str] = (), *, where: str = Origin.file
    ) -> RunConfig:
        """A configuration from tables as TOML gives them.

        Args:
            values: method and, if wanted, data, items, encoder, train, evaluate, serve. Without an encoder, the
                method's own.
            assignments: `a.b=value`, put into the tables; messages name them as `--set a.b=value`.
            where: name of the file, for messages.

        Raises:
            InputError: an unknown table, component or key (the nearest known one is named), or a value of another type
                or that its Config refuses.
        """
        assigned = tuple(assignments)
        values = override(values, assigned)
        unknown = [name for name in values if name not in SECTIONS]
        if unknown:
            raise input_error(f'unknown table "[{unknown[0]}]"; known: {", ".join(SECTIONS)}', file=where)
        tables = sections(values, where=where)
        if "method" not in tables:
            raise input_error("the table [method] is missing", file=where)

        def read(section: str, settings: type[C]) -> C:
            table = _settings(tables.get(section, {})) if section in COMPONENTS else tables.get(section, {})
            return convert(settings, table, where=f"{where} [{section}]", assignments=assigned)

        method = name_of(tables["method"], "methods", where=f"{where} [method]")
        default = find("methods", method).DEFAULT_ENCODER
        encoder = name_of(tables.get("encoder", {}), "encoders", where=f"{where} [encoder]", default=default)
        return cls(
            data=read("data", DataConfig) if "data" in tables else None,
            method=Component(name=method, settings=read("method", find("methods", method).Config)),
            encoder=Component(name=encoder, settings=read("encoder", find("encoders", encoder).Config)),
            items=read("items", ItemsConfig),
            train=read("train", TrainConfig),
            retrieval=read("retrieval", RetrievalConfig),
            evaluate=read("evaluate", EvaluateConfig),
            serve=read("serve", ServeConfig),
            origin=Origin(file=where, assignments=assigned),
        )

    def resolve(self, part: LogPart) -> RunConfig:
        """With what method and encoder leave open filled in from the training part of a log.

        Raises:
            InputError: a log that the method refuses as a whole.
        """
        return replace(self, method=self.method.resolve(part), encoder=self.encoder.resolve(part))

    def to_tables(self) -> dict[str, dict[str, object]]:
        """As TOML holds it."""
        data = {} if self.data is None else {"data": to_table(self.data)}
        # only where it says something: without it, a run is one of learned rows alone
        items = {} if self.items == ItemsConfig() else {"items": to_table(self.items)}
        return (
            data
            | items
            | {
                "encoder": self.encoder.to_table(),
                "method": self.method.to_table(),
                "train": to_table(self.train),
                "retrieval": to_table(self.retrieval),
                "evaluate": to_table(self.evaluate),
                "serve": to_table(self.serve),
            }
        )

    def to_toml(self, comments: Mapping[str, str] | None = None) -> str:
        """Text of config.toml, comments above the keys they name; `from_toml` reads the same configuration back."""
        return dump_toml(self.to_tables(), comments)


def _settings(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if key != "name"}
