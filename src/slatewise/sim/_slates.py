"""What every environment refuses before anything happens to its users."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from slatewise.errors import InputError, input_error
from slatewise.log import FIRST_ITEM, PAD
from slatewise.types import Slates


def check_slates(
    slates: Slates,
    *,
    num_users: int,
    slate_size: int,
    num_rows: int,
    candidates: Int[Tensor, "B C"] | None = None,
) -> None:
    """Refuse slates that an environment could not show.

    Args:
        slates: what a policy wants to show; item 0 at a list's end is an empty place.
        num_users: B.
        slate_size: K.
        num_rows: rows of the item table: real items have the numbers 2 … num_rows − 1.
        candidates: what may be shown, 0-padded; None = the whole catalog.

    Raises:
        InputError: another shape, an item that is not there, an item twice, an item behind an empty place, or a
            log-propensity above 0 or NaN; the message names the first user and position.
    """
    items, logp = slates.items, slates.logp
    if slate_size > num_rows - FIRST_ITEM:
        raise input_error(
            f"slates of {slate_size} from a catalog of {num_rows - FIRST_ITEM} items: choose a smaller slate"
        )
    if items.shape != (num_users, slate_size):
        raise input_error(f"slates.items has the shape {tuple(items.shape)}; expected ({num_users}, {slate_size})")
    shown = items != PAD
    unknown = shown & ((items < FIRST_ITEM) | (items >= num_rows))
    if bool(unknown.any()):
        raise _at(slates, unknown, f"expected an item number from {FIRST_ITEM} to {num_rows - 1}, or 0 for empty")
    full = bool(shown.all())
    if not full and slate_size > 1:
        gap = shown[:, 1:] & ~shown[:, :-1]
        if bool(gap.any()):
            raise _at(slates, pad(gap, (1, 0)), "it stands behind an empty place; empty places come last")
    for distance in range(1, slate_size):
        twice = items[:, distance:] == items[:, :-distance]
        if not full:
            twice &= shown[:, distance:]
        if bool(twice.any()):
            raise _at(slates, pad(twice, (distance, 0)), "it is in the slate already; show every item once")
    if candidates is not None:
        stranger = shown & ~(items.unsqueeze(2) == candidates.unsqueeze(1)).any(dim=2)
        if bool(stranger.any()):
            raise _at(slates, stranger, "it is none of this user's candidates")
    impossible = ~(logp <= 1e-5)  # NaN is not ≤ anything
    if bool(impossible.any()):
        user, position = (int(x) for x in impossible.nonzero()[0])
        raise input_error(
            f"slates.logp, user {user}, position {position}: {float(logp[user, position])} is no log-probability",
            advice="Expected a number ≤ 0.",
        )


def _at(slates: Slates, wrong: Bool[Tensor, "B K"], why: str) -> InputError:
    user, position = (int(x) for x in wrong.nonzero()[0])
    return input_error(
        f"slates.items, user {user}, position {position}: item {int(slates.items[user, position])}: {why}"
    )
