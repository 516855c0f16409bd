"""Where the settings of a run come from, as messages name it."""

from __future__ import annotations

from dataclasses import dataclass

from slatewise.config.tables import assignment_of, with_assignments


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A file, and the assignments that were put into its tables."""

    file: str = "the configuration"
    """Path of the file; settings made in Python have none."""
    assignments: tuple[str, ...] = ()
    """`a.b=value` of `--set`."""

    def of_key(self, table: str, key: str) -> str:
        """The assignment that set a key, or the table of the file: "run.toml [train]"."""
        place = f"{self.file} [{table}]"
        return assignment_of(place, key, self.assignments) or place

    def of_table(self, table: str) -> str:
        """A table of the file, with the assignments to its keys: "run.toml [method] with --set method.lr=0"."""
        return with_assignments(f"{self.file} [{table}]", self.assignments)
