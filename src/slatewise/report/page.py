"""What a report shows, as values: no HTML, no files. An empty section is left out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slatewise.stats import Measurement
from slatewise.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line, or one set of dots, of a chart. A NaN value is a gap.

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
            raise ValueError(f'curve "{self.name}": {len(self.x)} values of x, {len(self.y)} of y; expected as many')


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Curves that share their axes; with labels, dots over named positions."""

    title: str
    x: str
    """What the horizontal axis counts: "step"."""
    y: str
    """What the vertical axis measures: "ndcg@10, validation"."""
    curves: tuple[Curve, ...]
    name: str = ""
    """File name of its image, where one is written."""
    labels: tuple[str, ...] = ()
    """Names of the positions 0, 1, … of x, where x counts things instead of measuring."""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measure of the comparison."""

    name: str
    """Key of the rows' cells."""
    meaning: str
    """In words, for readers who do not know the name."""
    label: str = ""
    """Head of the column where the group already says the rest: "ndcg@10"; else the name stands there."""
    group: str = ""
    """Columns of one group stand together under its name: "held-out items rated ≥ 4"."""
    higher_is_better: bool | None = True
    """None: neither direction is better (Gini), nothing is set in bold."""
    plotted: bool = False
    """Also drawn as a plot."""
    digits: int = 3

    @property
    def head(self) -> str:
        """What stands above the column."""
        return self.label or self.name

    @property
    def full(self) -> str:
        """Head and group, for places outside the table."""
        return f"{self.head}, {self.group}" if self.group else self.head


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of the comparison."""

    name: str
    cells: Mapping[str, Measurement]
    """By the column's name; a missing one was not measured."""
    note: str = ""
    served: bool = False
    """The policy that this run serves."""
    corrected: bool = False
    """Trained with an off-policy correction: the page then says what that does to recall."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods × measures.

    Raises:
        ValueError: a row has a cell that no column shows.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    protocol: str
    """How the figures came about: split, ranking, what is excluded, number of seeds."""
    interval: str = "95 % interval over users"

    def __post_init__(self) -> None:
        known = {column.name for column in self.columns}
        for row in self.rows:
            if unknown := sorted(set(row.cells) - known):
                raise ValueError(
                    f'row "{row.name}" has the cells {", ".join(unknown)}; the columns are {", ".join(sorted(known))}'
                )


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How a method spreads its recommendations over the catalog."""

    name: str
    coverage: float
    """Share of the catalog that stands in at least one slate."""
    gini: float
    """0 = every item equally often, 1 = one item only."""
    lorenz: tuple[float, ...] = ()
    """At equal steps from 0 to 1 of the catalog, least shown first: the share of all recommendations up to there."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between edges.

    Raises:
        ValueError: not one edge more than counts, or a logarithmic axis with an edge at 0 or below.
    """

    title: str
    quantity: str
    """What the horizontal axis shows: "propensity of the logged item"."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    log_axis: bool = False
    """The edges grow by a factor: drawn on a logarithmic axis."""
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
    """What an estimate β̂ of the logging policy foretold, beside what was shown."""

    policy: str
    predicted: tuple[float, ...]
    """Mean probability of the forecasts of each bin."""
    observed: tuple[float, ...]
    """Share of them that came true."""
    shown: int
    ece: float
    ece_by_chance: float
    """What true probabilities would show, by the draws alone."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the log says about one policy."""

    policy: str
    estimate: Estimate
    estimator: str
    """"SNIPS, item-wise"."""
    propensities: str
    """Where they come from: "logged", or "estimated by the behaviour head, training rows only"."""
    logged_value: float | None = None
    """Mean reward per shown item of the log itself, on the same steps."""


@dataclass(frozen=True, kw_only=True)
class Used:
    """An item of a user's history."""

    title: str
    reward: str = ""
    """As a reader wants it: "5 of 5", "clicked"."""


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """An item of our slate."""

    title: str
    propensity: float | None = None
    """Chance of this item at its position, given those above it."""
    outcome: str = ""
    """What the user later did with it: "held-out item", "rated 5 later"."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One user: what they did last and what we would show."""

    user: str
    history: tuple[Used, ...]
    slate: tuple[Recommended, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the log comes from."""

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
    """Date and time in words."""
    source: Source
    summary: tuple[str, ...] = ()
    """The findings, a sentence or two each; the first is set large."""
    comparison: Comparison | None = None
    curves: tuple[LineChart, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    propensities: Histogram | None = None
    reliability: tuple[Reliability, ...] = ()
    exposure: tuple[Exposure, ...] = ()
    examples: tuple[Example, ...] = ()
    commands: tuple[str, ...] = ()
    """What to type to go on from here."""
    configuration: str = ""
    """TOML."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A statement that holds or not, with the numbers behind it."""

    name: str
    holds: bool
    figure: str
    """The numbers, in words."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A page of a reproduced experiment."""

    title: str
    facts: str
    """One line below the title: commit, seeds, time."""
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    charts: tuple[LineChart, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As printed; the first two cells of a row are text."""
