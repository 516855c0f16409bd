"""What the service is asked and what it answers: JSON bodies as msgspec Structs, from which openapi.json is written."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from slatewise.data.decisions_and_outcomes import FixedItem, Microseconds, check_names
from slatewise.data.item_filter import LONGEST
from slatewise.names import LONGEST_NAME

Id = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        description=f"Not blank, no control characters, at most {LONGEST_NAME:,} bytes of UTF-8.",
    ),
]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Sums of such numbers stay finite in float32."""


class Explore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exploration of this one slate; what is left out is as the service was started."""

    top_m: Annotated[int, Meta(ge=1, le=1_000_000, description="How many of the best items may be shown.")] | None = (
        None
    )
    keep: (
        Annotated[int, Meta(ge=0, le=1_000_000, description="First positions that hold the best items, in order.")]
        | None
    ) = None
    temperature: (
        Annotated[
            float, Meta(ge=1e-3, le=1e3, description="The other positions are drawn by softmax(score / temperature).")
        ]
        | None
    ) = None


class RecommendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask for a slate."""

    user_id: Id
    k: Annotated[int, Meta(ge=1, le=1_000_000, description="Slate size.")] = 10
    explore: Explore | None = None
    exclude: Annotated[list[Id], Meta(description="Items that must not be shown, beside those the user had.")] = []
    candidates: (
        Annotated[list[Id], Meta(min_length=1, description="Show only some of these; the whole catalog without it.")]
        | None
    ) = None
    where: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=LONGEST,
                description="Show only items whose columns match: in_stock and price <= 50 and category = 'x'.",
            ),
        ]
        | None
    ) = None
    fixed: Annotated[
        list[FixedItem],
        Meta(
            description="Positions that show an item whatever the policy says, a candidate or not, seen or not, "
            "matching or not."
        ),
    ] = []
    context: (
        Annotated[list[Number], Meta(description="What is seen of the user now, as many numbers as in the log.")] | None
    ) = None
    user_features: Annotated[
        dict[Id, Number | Id],
        Meta(description="What is known of the user, by the columns of the table of users: numbers and categories."),
    ] = {}
    session_id: Id | None = None

    def __post_init__(self) -> None:
        names = [self.user_id, *self.exclude, *(self.candidates or ()), *(item.item_id for item in self.fixed)]
        check_names(self, names if self.session_id is None else [*names, self.session_id])


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a slate."""

    item_id: str
    title: str
    position: Annotated[int, Meta(ge=0, description="0 = first.")]
    logp: Annotated[
        float, Meta(le=0, description="Log-probability of this item here, given the positions before it; float32.")
    ]
    propensity: Annotated[float, Meta(ge=0, le=1, description="exp(logp).")]
    explored: Annotated[bool, Meta(description="True where chance had a say: the propensity is below 1.")]


class RecommendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A slate, as it stands in the event log."""

    event_id: Annotated[str, Meta(description="Name it in /feedback.")]
    policy_version: str
    items: Annotated[list[Shown], Meta(description="Best first; fewer than k where no more items are left.")]
    logp: Annotated[float, Meta(le=0, description="Log-propensity of the whole slate: the sum over its positions.")]
    simulated: Annotated[bool, Meta(description="True where the policy learned from a simulated log.")]


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user did: with an item of a slate (event_id), or with an item nobody recommended (user_id)."""

    event_id: Annotated[Id, Meta(description="From /recommend.")] | None = None
    user_id: Annotated[Id, Meta(description="For a use outside of any slate; otherwise not needed.")] | None = None
    item_id: Id | None = None
    position: (
        Annotated[int, Meta(ge=0, le=1_000_000, description="In the slate, 0 = first; in place of item_id.")] | None
    ) = None
    type: Annotated[Id, Meta(description="click, like, share, purchase, rating, …")] = "click"
    value: Annotated[Number, Meta(description="How much of it: stars, seconds, 1 for a click.")] = 1.0
    timestamp: Annotated[Microseconds, Meta(description="Microseconds since 1970, UTC; now without it.")] | None = None
    outcome_id: (
        Annotated[Id, Meta(description="A second delivery with the same outcome_id changes nothing.")] | None
    ) = None

    def __post_init__(self) -> None:
        names = (self.event_id, self.user_id, self.item_id, self.type, self.outcome_id)
        check_names(self, [name for name in names if name is not None])


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one outcome."""

    event_id: str
    outcome_id: str | None = None
    status: Literal["accepted", "duplicate"]
    moved: Annotated[
        bool, Meta(description="True where it moved the user's state: the first outcome of its item worth more than 0.")
    ]


class FeedbackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the outcomes, in the order they were sent."""

    accepted: int
    duplicates: int
    outcomes: list[Receipt]


class MaskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole mask."""

    item_ids: Annotated[list[Id], Meta(description="Items that are not shown until they are lifted.")]

    def __post_init__(self) -> None:
        check_names(self, self.item_ids)


class Masks(msgspec.Struct, frozen=True, kw_only=True):
    """The items that are not shown."""

    item_ids: Annotated[list[str], Meta(description="Masked until they are lifted, in the order of the names.")]
    unknown: Annotated[list[str], Meta(description="Those that the catalog does not have; they hold for a later one.")]
    catalog_version: Annotated[str, Meta(description="Of the items and the mask, as decisions name it from now on.")]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The service is up."""

    status: Literal["ok"]
    version: Annotated[str, Meta(description="Of slatewise.")]
    policy_version: Annotated[str, Meta(description="12 digits of a SHA-256 of weights, items and settings.")]
    uptime_seconds: float
    decisions: Annotated[int, Meta(description="Slates served since the start.")]
    outcomes: Annotated[int, Meta(description="Outcomes accepted since the start.")]
    items: Annotated[int, Meta(description="Items in the catalog.")]
    masked: Annotated[int, Meta(description="How many of them are masked.")]
    simulated: bool


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused."""

    error: Annotated[str, Meta(description="What is wrong, and where.")]
    expected: Annotated[str, Meta(description="What would have been right.")]
    advice: Annotated[str, Meta(description="What to do next.")]
