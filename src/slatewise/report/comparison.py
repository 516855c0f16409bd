"""Stored evaluations of several runs as one table of methods × metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slatewise.data.splits import PartName
from slatewise.evaluation import RelevanceSummary, short_lists_note
from slatewise.methods import reinforce
from slatewise.report.columns import ranking_columns
from slatewise.report.page import Column, Comparison, Row
from slatewise.report.shared_metrics import SharedMetrics
from slatewise.stats import Measurement
from slatewise.training.finished_run import FinishedRun
from slatewise.wording import count_of


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run to show."""

    run: FinishedRun
    """The run, or that of the first seed, which stands for all of them where a run is looked at closely."""
    label: str
    seeds: tuple[FinishedRun, ...] = ()
    """The runs of a folder of seeds, the first one included; empty for a single run."""

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        """The run, or those of all seeds."""
        return self.seeds or (self.run,)

    @property
    def row_label(self) -> str:
        """Name of the row in the table."""
        return f"{self.label} (mean of {len(self.seeds)} seeds)" if self.seeds else self.label

    def label_of(self, run: FinishedRun) -> str:
        """Name of a run by itself."""
        return f"{self.label}/{run.folder.name}" if self.seeds else self.label

    @property
    def is_corrected(self) -> bool:
        """Trained with an off-policy correction."""
        settings = self.run.artifact.config.method.settings
        return isinstance(settings, reinforce.Config) and settings.correction != "none"

    @property
    def was_served(self) -> bool:
        """The event log that a service writes into the run (RUN/serve/events) has a slate of this policy."""
        version = self.run.artifact.version.encode()
        for path in sorted((self.run.folder / "serve" / "events").glob("*.jsonl")):
            with path.open("rb") as lines:
                # a decision has a slate, an outcome has none
                if any(version in line and b'"slate":' in line for line in lines):
                    return True
        return False


def measurements(evaluation: Mapping[str, Any]) -> dict[str, Measurement]:
    """The metrics of a stored evaluation by their names; what JSON cannot hold is NaN."""
    return {
        metric["name"]: Measurement(
            name=metric["name"],
            value=finite_or_nan(metric["value"]),
            low=finite_or_nan(metric["low"]),
            high=finite_or_nan(metric["high"]),
            users=metric["users"],
            left_out=metric["left_out"],
        )
        for metric in evaluation.get("metrics", [])
    }


def comparison(
    entries: Sequence[Entry],
    evaluations: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Measurement]],
    shared: SharedMetrics,
    *,
    detailed: Entry,
    part: PartName,
) -> Comparison:
    """The table of a page.

    Args:
        entries: the runs, in the order of the table.
        evaluations: the stored evaluation of the part, of the first seed where there are several, by label.
        measured: the metrics of each row, by label.
        shared: the metrics that mean the same for all runs.
        detailed: the run that the page looks at closely; its data are those of all.
        part: the part.
    """
    settings = detailed.run.artifact.config.evaluate
    columns = ranking_columns(shared.k, settings.liked_at_least)
    columns = tuple(column for column in columns if column.name in shared.names)
    names = {column.name for column in columns}
    rows = tuple(
        Row(
            name=entry.row_label,
            cells={name: cell for name, cell in measured[entry.label].items() if name in names},
            detailed=entry.label == detailed.label,
            served=entry.was_served,
            corrected=entry.is_corrected,
        )
        for entry in entries
    )
    # who has something to find depends on the split alone, not on the run
    relevance = _relevance(evaluations[detailed.label])
    exclusion = "items used before excluded" if settings.exclude_seen else "items used before not excluded"
    sentences = [
        f"Part “{part}” of the split, {count_of(relevance.users, 'user')}; full ranking over "
        f"{count_of(detailed.run.dataset.catalog.num_items, 'item')}, {exclusion}; {_seeds(entries)}.",
        *relevance.sentences(),
    ]
    if short_lists := evaluations[detailed.label]["short_lists"]:
        sentences.append(short_lists_note(short_lists))
    sentences += shared.notes
    return Comparison(
        columns=tuple(
            replace(column, over=_users(column, rows), reason=_reason(column, relevance, settings.liked_at_least))
            for column in columns
        ),
        rows=rows,
        protocol=" ".join(sentences),
    )


def _seeds(entries: Sequence[Entry]) -> str:
    """What the values of the rows are over, seeds apart."""
    if not any(entry.seeds for entry in entries):
        return "one seed"
    return "rows of several seeds are their mean, with the interval over seeds (Student's t); others are of one seed"


def finite_or_nan(value: float | None) -> float:
    """A number as JSON keeps it."""
    return math.nan if value is None else float(value)


def _relevance(evaluation: Mapping[str, Any]) -> RelevanceSummary:
    """Who had something to find, of a stored evaluation."""
    return RelevanceSummary(**{name: evaluation[name] for name in RelevanceSummary.__dataclass_fields__})


def _users(column: Column, rows: Sequence[Row]) -> str:
    """Over how many users a column is, and how many it leaves out; lists of runs may differ in who has one."""
    cells = [row.cells[column.name] for row in rows if column.name in row.cells]
    texts = {
        count_of(cell.users or 0, "user") + (f", {cell.left_out:,} left out" if cell.left_out else "") for cell in cells
    }
    return " / ".join(sorted(texts))


def _reason(column: Column, relevance: RelevanceSummary, liked_at_least: float | None) -> str:
    """Why a cell of the column has no value, where it has none."""
    if column.name.startswith("liked_share"):
        return "no recommended item was used in the part"
    if column.name.startswith("liked_") and relevance.with_relevant and liked_at_least is not None:
        return f"no item that could be found was liked (reward ≥ {liked_at_least:g})"
    return "no user with something to find" if not relevance.with_relevant else "not measured"
