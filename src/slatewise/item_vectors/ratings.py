"""What items are like, as vectors: the ratings themselves, factors of them, or a variational code of them.

Vectors from elsewhere (text embeddings, features of the catalog) need nothing from here.

Everything here reads `Ratings`, so that whoever holds users out gives the ratings of the others. Rows belong to item
numbers: row i is item i, the two reserved rows are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import Ratings
from slatewise.ops.initial import normal_

Kind = Literal["ratings", "vae", "factors"]
OUTER = 1 << 23
"""Numbers that the normal equations of some users or items take at a time."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """A rating as mean + user's bias + item's bias + ⟨user's factors, item's factors⟩, clipped to the scale."""

    mean: float
    scale: tuple[float, float]
    user_bias: Float[Tensor, "U"]
    item_bias: Float[Tensor, "rows"]
    user: Float[Tensor, "U E"]
    item: Float[Tensor, "rows E"]

    def of(self, users: Int[Tensor, "B"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Ratings that users would give to items."""
        taste = torch.einsum("be,bae->ba", self.user[users], self.item[items])
        value = self.mean + self.user_bias[users].unsqueeze(1) + self.item_bias[items] + taste
        return value.clamp(*self.scale)


def factorise(
    given: Ratings,
    *,
    width: int = 8,
    rounds: int = 12,
    damping: float = 10.0,
    penalty: float = 0.1,
    generator: Generator,
) -> Factors:
    """Biases by damped means, then factors of what they leave by alternating least squares (Zhou et al. 2008).

    Args:
        given: the ratings.
        width: E.
        rounds: times that both sides are solved.
        damping: ratings of value 0 that every bias starts from.
        penalty: on the squared norm of a row, per rating of it.
        generator: of the first item factors.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1 factor")
    mean = float(given.value.double().mean())
    rest = given.value - mean
    item_bias = _damped_means(given.item, rest, given.num_rows, damping)
    rest = rest - item_bias[given.item]
    user_bias = _damped_means(given.user, rest, given.num_users, damping)
    rest = rest - user_bias[given.user]

    by_item = torch.argsort(given.item, stable=True)
    item_offsets = torch.nn.functional.pad(given.counts().cumsum(0), (1, 0))
    item = torch.zeros(given.num_rows, width)
    normal_(item, 0.1, generator)
    user = torch.zeros(given.num_users, width)
    for _ in range(rounds):
        user = _least_squares(item, given.offsets, given.item, rest, penalty)
        item = _least_squares(user, item_offsets, given.user[by_item], rest[by_item], penalty)
    return Factors(mean=mean, scale=given.scale, user_bias=user_bias, item_bias=item_bias, user=user, item=item)


def _damped_means(
    row: Int[Tensor, "R"], value: Float[Tensor, "R"], num_rows: int, damping: float
) -> Float[Tensor, "rows"]:
    total = torch.zeros(num_rows).index_add_(0, row, value)
    return total / (torch.bincount(row, minlength=num_rows) + damping).clamp(min=1e-9)


def _least_squares(
    other: Float[Tensor, "M E"],
    offsets: Int[Tensor, "N1"],
    column: Int[Tensor, "R"],
    value: Float[Tensor, "R"],
    penalty: float,
) -> Float[Tensor, "N E"]:
    """x_n = (Σ y yᵀ + penalty · count · I)⁻¹ Σ value · y for every row n; 0 where it has no entry."""
    width = other.shape[1]
    found = other.new_zeros(len(offsets) - 1, width)
    for first, last in _stretches(offsets, OUTER // (width * width)):
        at = slice(int(offsets[first]), int(offsets[last]))
        count = offsets[first : last + 1].diff()
        row = torch.repeat_interleave(torch.arange(last - first), count)
        y = other[column[at]]
        outer = (y.unsqueeze(2) * y.unsqueeze(1)).flatten(1)
        matrix = outer.new_zeros(last - first, width * width).index_add_(0, row, outer).view(-1, width, width)
        right = y.new_zeros(last - first, width).index_add_(0, row, y * value[at].unsqueeze(1))
        matrix = matrix + torch.eye(width) * (penalty * count.clamp(min=1)).view(-1, 1, 1)
        found[first:last] = torch.linalg.solve(matrix, right)
    return found


def _stretches(offsets: Int[Tensor, "N1"], most: int) -> Iterator[tuple[int, int]]:
    """Rows first … last − 1 with at most about so many entries, and never more rows than that."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        last = int(torch.searchsorted(offsets, offsets[first] + most, right=True)) - 1
        last = max(first + 1, min(last, first + most, rows))
        yield first, last
        first = last


def rating_columns(given: Ratings, *, generator: Generator, most: int = 8192) -> Float[Tensor, "rows E"]:
    """Every item as what each user said to it, on [−1, 1]; 0 where he said nothing.

    Args:
        given: the ratings.
        generator: of the projection.
        most: with more users than this, columns are projected onto 512 random directions, which keeps distances within
            about a tenth (Johnson and Lindenstrauss); nothing is then dense over users × items.
    """
    value = _scaled(given)
    if given.num_users <= most:
        columns = torch.zeros(given.num_rows, given.num_users)
        columns[given.item, given.user] = value
        return columns
    width = 512
    directions = torch.empty(given.num_users, width)
    normal_(directions, width**-0.5, generator)
    columns = torch.zeros(given.num_rows, width)
    for at in torch.split(torch.arange(len(value)), OUTER // width):
        columns.index_add_(0, given.item[at], directions[given.user[at]] * value[at].unsqueeze(1))
    return columns


def variational_codes(
    given: Ratings,
    *,
    width: int = 8,
    hidden: int = 64,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 3e-3,
    kl_weight: float = 0.2,
    generator: Generator,
) -> Float[Tensor, "rows E"]:
    """Means of a variational autoencoder of rating columns (Kingma & Welling 2014), which sees rated entries only.

    q(z|column) = N(μ, diag σ²) from one hidden layer; an entry is decoded as a Gaussian around ⟨hidden(z), w_user⟩ +
    b_user. The loss of an item is its mean squared error over its raters plus kl_weight / raters times the divergence
    from N(0, I), so items that many rated are described more closely.

    Args:
        given: the ratings.
        width: E.
        hidden: width of the hidden layers.
        epochs: passes over the items.
        batch_size: items a step.
        lr: of Adam.
        kl_weight: of the divergence.
        generator: of first values, order and noise.
    """
    value = _scaled(given)
    order = torch.argsort(given.item, stable=True)
    user, value = given.user[order], value[order]
    offsets = torch.nn.functional.pad(given.counts().cumsum(0), (1, 0))
    rated = (offsets.diff() > 0).nonzero().squeeze(1)
    weights = {
        "read": torch.empty(given.num_users, hidden),
        "code": torch.empty(hidden, 2 * width),
        "code_bias": torch.zeros(2 * width),
        "open": torch.empty(width, hidden),
        "open_bias": torch.zeros(hidden),
        "say": torch.empty(given.num_users, hidden),
        "say_bias": torch.zeros(given.num_users),
    }
    for name, scale in (("read", 1.0), ("code", hidden**-0.5), ("open", width**-0.5), ("say", hidden**-0.5)):
        normal_(weights[name], scale, generator)
    for weight in weights.values():
        weight.requires_grad_()
    optimiser = torch.optim.Adam(weights.values(), lr=lr)

    def entries(items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Place in the batch, user and value of every rating of some items."""
        count = offsets[items + 1] - offsets[items]
        place = torch.repeat_interleave(torch.arange(len(items)), count)
        within = torch.arange(len(place)) - torch.repeat_interleave(count.cumsum(0) - count, count)
        at = offsets[items][place] + within
        return place, user[at], value[at]

    def code(items: Tensor, place: Tensor, who: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(items), hidden).index_add(0, place, weights["read"][who] * said.unsqueeze(1))
        raters = torch.bincount(place, minlength=len(items)).clamp(min=1).unsqueeze(1)
        mean, log_variance = (torch.tanh(total * raters**-0.5) @ weights["code"] + weights["code_bias"]).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 8.0)

    for _ in range(epochs):
        for items in torch.split(rated[torch.randperm(len(rated), generator=generator)], batch_size):
            place, who, said = entries(items)
            mean, log_variance = code(items, place, who, said)
            noise = torch.empty_like(mean).normal_(generator=generator)
            z = mean + noise * torch.exp(0.5 * log_variance)
            shape = torch.tanh(z @ weights["open"] + weights["open_bias"])
            error = (shape[place] * weights["say"][who]).sum(dim=1) + weights["say_bias"][who] - said
            raters = torch.bincount(place, minlength=len(items)).float()
            squared = torch.zeros(len(items)).index_add(0, place, error.square()) / raters
            divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
            loss = (squared + kl_weight * divergence / raters).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    found = torch.zeros(given.num_rows, width)
    with torch.no_grad():
        for items in torch.split(rated, batch_size):
            found[items] = code(items, *entries(items))[0]
    return found


def vectors_of(given: Ratings, kind: Kind, *, width: int = 8, generator: Generator) -> Float[Tensor, "rows E"]:
    """Item vectors of a kind: rating columns, their variational codes, or factors.

    Args:
        given: the ratings.
        kind: which.
        width: E of codes and factors.
        generator: of everything drawn.
    """
    if kind == "ratings":
        return rating_columns(given, generator=generator)
    if kind == "vae":
        return variational_codes(given, width=width, generator=generator)
    return factorise(given, width=width, generator=generator).item


def _scaled(given: Ratings) -> Float[Tensor, "R"]:
    """Ratings on [−1, 1]; all 0 where they are all the same."""
    low, high = given.scale
    return (given.value - (low + high) / 2) * (2 / (high - low) if high > low else 0.0)
