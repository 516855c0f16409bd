"""What became of the events of a log that was added to a data set."""

from __future__ import annotations

from dataclasses import dataclass, field

from slatewise.data.item_columns import ColumnChanges
from slatewise.wording import agree, count_of


@dataclass(frozen=True, kw_only=True)
class MergeAccount:
    """What became of the events of the second data set."""

    added: int
    """Events that the first did not have."""
    duplicates: int
    """Events that it had already: left out."""
    late_outcomes: int
    """Outcomes that arrived for its slates."""
    set_aside: int
    """Events that contradict it: their id is another user's event, another slate, or one without their item."""
    new_users: int
    new_items: int
    featureless_items: int
    """New items without features, where the others have them."""
    columns: ColumnChanges = field(default_factory=ColumnChanges)
    notes: tuple[str, ...] = ()
    """How the second was read, and in what the two differ; one sentence each."""

    def sentences(self) -> list[str]:
        """The account in words."""
        lines = [
            f"{count_of(self.added, 'event')} added, {count_of(self.new_users, 'new user')}, "
            f"{count_of(self.new_items, 'new item')}.",
        ]
        if self.duplicates:
            lines.append(f"{count_of(self.duplicates, 'event')} {_was(self.duplicates)} there already: left out.")
        if self.late_outcomes:
            belong = f"belonged to slates that {_was(self.late_outcomes)} there."
            lines.append(f"{count_of(self.late_outcomes, 'outcome')} {belong}")
        if self.set_aside:
            lines.append(
                f"{count_of(self.set_aside, 'event')} set aside: their ids are those of another user's events, of "
                "other slates, or of slates that did not show their item."
            )
        if self.featureless_items:
            lines.append(
                f"{count_of(self.featureless_items, 'new item')} without features; import with --items to give them "
                "some."
            )
        return [*lines, *self.columns.sentences(), *self.notes]


def _was(count: int) -> str:
    return agree(count, "was", "were")
