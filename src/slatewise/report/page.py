"""The content of a report as values, without HTML or files. Empty sections are left out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slatewise.stats import Measurement
from slatewise.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line or a set of dots of a chart. A NaN value is a gap.

    Raises:
        ValueError: x and y differ in length.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    half: tuple[float, ...] = ()
    """Half the width of the interval at each point, where there is one."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f'curve "{self.name}": {len(self.x)} values of x, {len(self.y)} of y; expected equal counts'
            )


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Curves with common axes; with labels, dots over named positions."""

    title: str
    x: str
    """Quantity of the horizontal axis, for example "step"."""
    y: str
    """Quantity of the vertical axis, for example "ndcg@10, validation"."""
    curves: tuple[Curve, ...]
    name: str = ""
    """File name of its image, where one is written."""
    labels: tuple[str, ...] = ()
    """Names of the positions 0, 1, … of x, for a categorical axis."""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A metric of the comparison."""

    name: str
    """Key of the rows' cells."""
    meaning: str
    """Explanation for readers who do not know the name."""
    label: str = ""
    """Head of the column where the group implies the rest ("ndcg@10"); empty = the name."""
    group: str = ""
    """Group under whose name columns are shown together: "held-out items rated ≥ 4"."""
    higher_is_better: bool | None = True
    """None: neither direction is better (Gini), no value is set in bold."""
    plotted: bool = False
    """Whether it is also plotted."""
    digits: int = 3
    """Significant ones."""
    over: str = ""
    """Over how many users it is, as printed below the header; empty = not of users."""
    reason: str = ""
    """Why a cell without a value has none."""

    @property
    def head(self) -> str:
        """Header of the column."""
        return self.label or self.name

    @property
    def full(self) -> str:
        """Header and group, for use outside the table."""
        return f"{self.head}, {self.group}" if self.group else self.head


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method of the comparison."""

    name: str
    cells: Mapping[str, Measurement]
    """By column name; a missing cell was not measured."""
    note: str = ""
    detailed: bool = False
    """Whether the rest of the page looks at this run closely."""
    served: bool = False
    """Whether a service has shown this policy's slates to users."""
    corrected: bool = False
    """Whether it was trained with an off-policy correction; the page then explains the effect on recall."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table of methods × metrics.

    Raises:
        ValueError: a row has a cell without a column.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    protocol: str
    """How the metrics were computed: split, ranking, excluded items, number of seeds."""
    interval: str = "95 % interval over users"

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        for row in self.rows:
            if unknown := sorted(set(row.cells) - names):
                raise ValueError(
                    f'row "{row.name}" has the cells {", ".join(unknown)}; the columns are {", ".join(sorted(names))}'
                )


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """The distribution of a method's recommendations over the catalog."""

    name: str
    coverage: float
    """Share of the catalog that is in at least one slate."""
    gini: float
    """0 = every item equally often, 1 = one item only."""
    lorenz: tuple[float, ...] = ()
    """Lorenz curve: cumulative share of recommendations at equal steps of the catalog, least shown items first."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between edges.

    Raises:
        ValueError: not one edge more than counts, or a logarithmic axis with an edge at 0 or below.
    """

    title: str
    quantity: str
    """Quantity of the horizontal axis, for example "propensity of the logged item"."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    counted: str = "count"
    """Quantity of the vertical axis: "shown items"."""
    log_axis: bool = False
    """Whether the axis is logarithmic."""
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(
                f'histogram "{self.title}": {len(self.edges)} edges, {len(self.counts)} counts; expected one edge more'
            )
        if self.log_axis and not min(self.edges) > 0:
            raise ValueError(
                f'histogram "{self.title}": edge {min(self.edges)} on a logarithmic axis; expected above 0'
            )


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Calibration of an estimate β̂ of the logging policy: predicted probabilities and observed shares."""

    policy: str
    predicted: tuple[float, ...]
    """Mean predicted probability of each bin."""
    observed: tuple[float, ...]
    """Observed share of each bin."""
    shown: int
    ece: float
    ece_by_chance: float
    """Expected calibration error of the true probabilities, from sampling noise alone."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The off-policy estimate of one policy."""

    policy: str
    estimate: Estimate
    estimator: str
    """"SNIPS, item-wise"."""
    logged_value: float | None = None
    """Mean reward per shown item of the log itself, on the same steps."""


@dataclass(frozen=True, kw_only=True)
class Used:
    """An item that a user used."""

    title: str
    reward: str
    """As printed: "reward 5"."""
    time: str = ""
    """As printed; "" where the log has no clock."""
    remark: str = ""
    """Of a held-out use, where the slate has the item, or why it could not: "position 3", "used before"."""
    recommended: bool = False
    """Of a held-out use: the slate has the item."""


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """An item of a slate made for the page."""

    title: str
    probability: float
    """π(item | state): of the item in one draw."""
    log_propensity: float
    """Of the item at its position in the procedure that a service follows, given those above it."""
    used: str = ""
    """What the user's next use of it was worth: "reward 4"; "" where there was none."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A user: what they used before the reported part, what is recommended then, and what they used in the part."""

    user: str
    history: tuple[Used, ...]
    slate: tuple[Recommended, ...]
    next: tuple[Used, ...]
    history_note: str = ""
    """How many uses the history has, where not all are shown."""
    slate_note: str = ""
    """When, and what was excluded."""
    next_note: str = ""
    """Out of how many shown items, and how many uses are not listed."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Users with slates of one policy."""

    users: tuple[Example, ...]
    policy: str
    note: str
    """Which users these are."""
    probability: str
    """Under which conditions the column of single draws holds."""
    log_propensity: str
    """Under which request the column of the served procedure holds."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The origin of the log."""

    name: str
    simulated: bool
    terms: str
    citation: str = ""
    fingerprint: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """"users", "items", "interactions" …"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    created: str
    """Date and time, as printed."""
    source: Source
    summary: tuple[str, ...] = ()
    """The findings, one or two sentences each; the first is emphasised."""
    comparison: Comparison | None = None
    curves: tuple[LineChart, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    propensities: Histogram | None = None
    reliability: tuple[Reliability, ...] = ()
    exposure: tuple[Exposure, ...] = ()
    examples: Examples | None = None
    commands: tuple[str, ...] = ()
    """Commands for the next steps."""
    configuration: str = ""
    """TOML."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A statement that holds or not, with its evidence."""

    name: str
    holds: bool
    figure: str
    """The numbers, in words."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The page of a reproduced experiment."""

    title: str
    facts: str
    """One line below the title: commit, seeds, time."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    charts: tuple[LineChart, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As printed; the first two cells of a row are text."""
