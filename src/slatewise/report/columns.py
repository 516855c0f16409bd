"""The columns of a comparison of rankings, under the names of the metrics in `slatewise.evaluation`."""

from __future__ import annotations

from slatewise.report.numbers import number
from slatewise.report.page import Column


def ranking_columns(k: int, liked_at_least: float | None = None) -> tuple[Column, ...]:
    """Columns for held-out items, liked held-out items (where the log has a rating threshold) and recommended items.

    Args:
        k: length of the lists.
        liked_at_least: a held-out item with at least this reward counts as liked.
    """
    columns = [
        Column(
            name=f"ndcg@{k}",
            meaning=f"1 where the held-out item is first, less at lower positions, 0 outside the top {k}.",
            group="held-out items",
            plotted=True,
        ),
        Column(name=f"recall@{k}", meaning=f"Share of the held-out items in the top {k}.", group="held-out items"),
    ]
    if liked_at_least is not None:
        group = f"held-out items rated ≥ {number(liked_at_least, 0 if liked_at_least == int(liked_at_least) else 1)}"
        columns += [
            Column(
                name=f"liked_ndcg@{k}",
                label=f"ndcg@{k}",
                meaning="The same, for held-out items they liked.",
                group=group,
            ),
            Column(
                name=f"liked_recall@{k}",
                label=f"recall@{k}",
                meaning="The same, for held-out items they liked.",
                group=group,
                plotted=True,
            ),
            Column(
                name=f"liked_share@{k}",
                label=f"liked@{k}",
                meaning="Share of liked ones among the recommended items that the user did rate later.",
                group="recommended items",
            ),
        ]
    columns += [
        Column(
            name=f"coverage@{k}",
            meaning="Share of the catalog that is in at least one list.",
            group="recommended items",
            digits=4,
            plotted=True,
        ),
        Column(
            name=f"gini@{k}",
            meaning="0 where every item is recommended equally often, 1 where only one item is.",
            group="recommended items",
            higher_is_better=None,
            digits=4,
        ),
    ]
    return tuple(columns)
