"""Item vectors from ratings: the rating columns themselves, matrix factors, or codes of a variational autoencoder.

All functions take `Ratings`; to hold users out, pass the ratings of the others. Row i belongs to item number i, the two
reserved rows are 0.
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
"""Limit on the number of floats that one block of normal equations takes."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Matrix factorisation: mean + user bias + item bias + ⟨user factors, item factors⟩, clipped to the scale."""

    mean: float
    scale: tuple[float, float]
    user_bias: Float[Tensor, "U"]
    item_bias: Float[Tensor, "rows"]
    user: Float[Tensor, "U E"]
    item: Float[Tensor, "rows E"]

    def of(self, users: Int[Tensor, "B"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Predicted ratings of items by users."""
        taste = torch.einsum("be,bae->ba", self.user[users], self.item[items])
        value = self.mean + self.user_bias[users].unsqueeze(1) + self.item_bias[items] + taste
        return value.clamp(*self.scale)


def factorise(
    ratings: Ratings,
    *,
    width: int = 8,
    rounds: int = 12,
    damping: float = 10.0,
    penalty: float = 0.1,
    generator: Generator,
) -> Factors:
    """Fit biases by damped means, then factors of the residuals by alternating least squares (Zhou et al. 2008).

    Args:
        ratings: the ratings.
        width: E.
        rounds: how often both sides are solved.
        damping: number of ratings of value 0 that are added to every bias's mean.
        penalty: on the squared norm of a row, per rating of that row.
        generator: draws the initial item factors.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1 factor")
    mean = float(ratings.value.double().mean())
    residual = ratings.value - mean
    item_bias = _damped_means(ratings.item, residual, ratings.num_rows, damping)
    residual = residual - item_bias[ratings.item]
    user_bias = _damped_means(ratings.user, residual, ratings.num_users, damping)
    residual = residual - user_bias[ratings.user]

    by_item = torch.argsort(ratings.item, stable=True)
    item_offsets = torch.nn.functional.pad(ratings.counts().cumsum(0), (1, 0))
    item = torch.zeros(ratings.num_rows, width)
    normal_(item, 0.1, generator)
    user = torch.zeros(ratings.num_users, width)
    for _ in range(rounds):
        user = _least_squares(item, ratings.offsets, ratings.item, residual, penalty)
        item = _least_squares(user, item_offsets, ratings.user[by_item], residual[by_item], penalty)
    return Factors(mean=mean, scale=ratings.scale, user_bias=user_bias, item_bias=item_bias, user=user, item=item)


def _damped_means(
    row: Int[Tensor, "R"], value: Float[Tensor, "R"], num_rows: int, damping: float
) -> Float[Tensor, "rows"]:
    """Mean of the values of each row, damped towards 0."""
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
    solutions = other.new_zeros(len(offsets) - 1, width)
    for first, last in _row_blocks(offsets, OUTER // (width * width)):
        entries = slice(int(offsets[first]), int(offsets[last]))
        count = offsets[first : last + 1].diff()
        row = torch.repeat_interleave(torch.arange(last - first), count)
        y = other[column[entries]]
        outer = (y.unsqueeze(2) * y.unsqueeze(1)).flatten(1)
        matrix = outer.new_zeros(last - first, width * width).index_add_(0, row, outer).view(-1, width, width)
        right = y.new_zeros(last - first, width).index_add_(0, row, y * value[entries].unsqueeze(1))
        matrix = matrix + torch.eye(width) * (penalty * count.clamp(min=1)).view(-1, 1, 1)
        solutions[first:last] = torch.linalg.solve(matrix, right)
    return solutions


def _row_blocks(offsets: Int[Tensor, "N1"], most: int) -> Iterator[tuple[int, int]]:
    """Blocks first … last − 1 of at most `most` rows, with at most about `most` entries each."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        last = int(torch.searchsorted(offsets, offsets[first] + most, right=True)) - 1
        last = max(first + 1, min(last, first + most, rows))
        yield first, last
        first = last


def rating_columns(ratings: Ratings, *, generator: Generator, most: int = 8192) -> Float[Tensor, "rows E"]:
    """Every item as the column of its ratings, scaled to [−1, 1]; 0 where a user gave none.

    Args:
        ratings: the ratings.
        generator: draws the projection.
        most: with more users than this, columns are projected onto 512 random directions, which keeps distances within
            about a tenth (Johnson and Lindenstrauss), so that no users × items matrix is ever allocated.
    """
    value = _rescale(ratings)
    if ratings.num_users <= most:
        columns = torch.zeros(ratings.num_rows, ratings.num_users)
        columns[ratings.item, ratings.user] = value
        return columns
    width = 512
    directions = torch.empty(ratings.num_users, width)
    normal_(directions, width**-0.5, generator)
    columns = torch.zeros(ratings.num_rows, width)
    for entries in torch.split(torch.arange(len(value)), OUTER // width):
        columns.index_add_(0, ratings.item[entries], directions[ratings.user[entries]] * value[entries].unsqueeze(1))
    return columns


class _ColumnCoder:
    """A variational autoencoder of rating columns that sees the rated entries only; see `variational_codes`."""

    def __init__(self, ratings: Ratings, *, width: int, hidden: int, generator: Generator) -> None:
        order = torch.argsort(ratings.item, stable=True)
        self.user, self.value = ratings.user[order], _rescale(ratings)[order]
        self.offsets = torch.nn.functional.pad(ratings.counts().cumsum(0), (1, 0))
        # the encoder is read → code, the decoder open → say
        shapes = {"read": (ratings.num_users, hidden), "code": (hidden, 2 * width), "open": (width, hidden)}
        shapes["say"] = shapes["read"]
        self.weights = {name: torch.empty(shape) for name, shape in shapes.items()}
        for name, std in (("read", 1.0), ("code", hidden**-0.5), ("open", width**-0.5), ("say", hidden**-0.5)):
            normal_(self.weights[name], std, generator)
        sizes = {"code_bias": 2 * width, "open_bias": hidden, "say_bias": ratings.num_users}
        self.weights |= {name: torch.zeros(size) for name, size in sizes.items()}
        for weight in self.weights.values():
            weight.requires_grad_()

    def entries(self, items: Int[Tensor, "B"]) -> tuple[Int[Tensor, "R"], Int[Tensor, "R"], Float[Tensor, "R"]]:
        """Row in the batch, user and value of every rating of the items."""
        count = self.offsets[items + 1] - self.offsets[items]
        row = torch.repeat_interleave(torch.arange(len(items)), count)
        within = torch.arange(len(row)) - torch.repeat_interleave(count.cumsum(0) - count, count)
        entry = self.offsets[items][row] + within
        return row, self.user[entry], self.value[entry]

    def encode(
        self, items: Int[Tensor, "B"], row: Int[Tensor, "R"], user: Int[Tensor, "R"], value: Float[Tensor, "R"]
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
        """Mean and log variance of q(z|column)."""
        weights = self.weights
        read = weights["read"][user] * value.unsqueeze(1)
        total = torch.zeros(len(items), read.shape[1]).index_add(0, row, read)
        # the root of the number of raters keeps the sum's size independent of it
        raters = torch.bincount(row, minlength=len(items)).clamp(min=1).unsqueeze(1)
        mean, log_variance = (torch.tanh(total * raters**-0.5) @ weights["code"] + weights["code_bias"]).chunk(2, dim=1)
        return mean, log_variance.clamp(-8.0, 8.0)

    def loss(self, items: Int[Tensor, "B"], kl_weight: float, generator: Generator) -> Float[Tensor, ""]:
        """Mean squared error of one sample of z per item, plus the divergence from N(0, I) times kl_weight / raters."""
        weights = self.weights
        row, user, value = self.entries(items)
        mean, log_variance = self.encode(items, row, user, value)
        noise = torch.empty_like(mean).normal_(generator=generator)
        z = mean + noise * torch.exp(0.5 * log_variance)
        decoded = torch.tanh(z @ weights["open"] + weights["open_bias"])
        error = (decoded[row] * weights["say"][user]).sum(dim=1) + weights["say_bias"][user] - value
        raters = torch.bincount(row, minlength=len(items)).float()
        squared = torch.zeros(len(items)).index_add(0, row, error.square()) / raters
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
        return (squared + kl_weight * divergence / raters).mean()


def variational_codes(
    ratings: Ratings,
    *,
    width: int = 8,
    hidden: int = 64,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 3e-3,
    kl_weight: float = 0.2,
    generator: Generator,
) -> Float[Tensor, "rows E"]:
    """Means of a variational autoencoder of rating columns (Kingma & Welling 2014) on the rated entries only.

    q(z|column) = N(μ, diag σ²) from one hidden layer; an entry is decoded as a Gaussian around ⟨hidden(z), w_user⟩ +
    b_user. The loss of an item is its mean squared error over its raters plus kl_weight / raters times the divergence
    from N(0, I), so that items with many ratings are described more closely.

    Args:
        ratings: the ratings.
        width: E.
        hidden: width of the hidden layers.
        epochs: passes over the items.
        batch_size: items per step.
        lr: learning rate of Adam.
        kl_weight: weight of the divergence.
        generator: draws initial weights, order and noise.
    """
    coder = _ColumnCoder(ratings, width=width, hidden=hidden, generator=generator)
    rated = (coder.offsets.diff() > 0).nonzero().squeeze(1)
    optimiser = torch.optim.Adam(coder.weights.values(), lr=lr)
    for _ in range(epochs):
        for items in torch.split(rated[torch.randperm(len(rated), generator=generator)], batch_size):
            loss = coder.loss(items, kl_weight, generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    codes = torch.zeros(ratings.num_rows, width)
    with torch.no_grad():
        for items in torch.split(rated, batch_size):
            codes[items] = coder.encode(items, *coder.entries(items))[0]
    return codes


def vectors_of(ratings: Ratings, kind: Kind, *, width: int = 8, generator: Generator) -> Float[Tensor, "rows E"]:
    """Item vectors of a kind: rating columns, their variational codes, or factors.

    Args:
        ratings: the ratings.
        kind: which of them.
        width: E of codes and factors.
        generator: source of all draws.
    """
    if kind == "ratings":
        return rating_columns(ratings, generator=generator)
    if kind == "vae":
        return variational_codes(ratings, width=width, generator=generator)
    return factorise(ratings, width=width, generator=generator).item


def _rescale(ratings: Ratings) -> Float[Tensor, "R"]:
    """Ratings on [−1, 1]; all 0 where the scale has only one value."""
    low, high = ratings.scale
    return (ratings.value - (low + high) / 2) * (2 / (high - low) if high > low else 0.0)
