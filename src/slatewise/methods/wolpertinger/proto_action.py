"""Proto-actions: what a continuous action is worth once the items nearest to it are looked at.

Dulac-Arnold et al., "Deep Reinforcement Learning in Large Discrete Action Spaces", 2015 (arXiv 1512.07679).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor


def on_sphere(vectors: Float[Tensor, "*A E"]) -> Float[Tensor, "*A E"]:
    """Vectors of norm 1, so that the nearest are those of the largest inner product: |x − y|² = 2 − 2 ⟨x, y⟩.

    A vector of norm 0 has no direction and stays 0: it is at distance 1 from everything.
    """
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, torch.ones_like(norm))


def perturb(proto: Float[Tensor, "B E"], *, std: float, limit: float, generator: Generator) -> Float[Tensor, "B E"]:
    """Proto-actions with noise, back on the sphere: target smoothing (Fujimoto et al. 2018, sec. 5.3), exploration.

    Args:
        proto: of norm 1.
        std: standard deviation of the noise as a whole: σ/√E in each direction; 0 changes nothing.
        limit: upper limit of the noise's size in each direction, in units of its standard deviation.
        generator: source of the noise.
    """
    noise = torch.randn(proto.shape, generator=generator).clamp_(-limit, limit)
    return on_sphere(proto + noise * (std / proto.shape[1] ** 0.5))


def td_target(
    reward: Float[Tensor, " P"], next_value: Float[Tensor, " P"], terminated: Bool[Tensor, " P"], gamma: float
) -> Float[Tensor, " P"]:
    """The target y = r + γ Q'(s', π'(s')); nothing follows where the session ended by itself."""
    return reward + gamma * next_value.masked_fill(terminated, 0.0)


def td_target_without_draw(
    reward: Float[Tensor, " P"],
    next_value: Float[Tensor, " P"],
    terminated: Bool[Tensor, " P"],
    end_chance: Float[Tensor, " P"],
    gamma: float,
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """The target r + γ (1 − p) Q'(s', π'(s')), and the weight of its error: 1 / (1 − p) if the session went on, else 0.

    p is the chance that a session ends after such an outcome. The weighted error has the same mean as that of
    `td_target`, where the coin itself stands in the target, and lacks the coin's variance: p (1 − p) (γ Q')². Where a
    session ended, nobody saw s'; such steps count by the weight of those that went on.

    Args:
        reward: r.
        next_value: Q'(s', π'(s')).
        terminated: the session ended by itself.
        end_chance: p in [0, 1).
        gamma: γ.
    """
    goes_on = 1 - end_chance
    return reward + gamma * goes_on * next_value, (~terminated).to(reward.dtype) / goes_on


def largest_columns(values: Float[Tensor, "B N"], k: int) -> Int[Tensor, "B K"]:
    """Columns of the k largest numbers of each row, in no order; NumPy's partition takes a fifth of torch's time."""
    rank = values.shape[1] - k
    return torch.from_numpy(np.argpartition(values.detach().numpy(), rank, axis=1)[:, rank:])


def best_of_nearest(
    worth: Float[Tensor, "B N"], closeness: Float[Tensor, "B N"] | None, k: int
) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
    """The largest worth among the k columns of the largest closeness, and its column.

    The best of all is looked at first: where fewer than k columns are closer, it is the best of the nearest. Only for
    the other rows the k-th closeness is found. Of columns that are as close as the k-th, all count.

    Args:
        worth: of every column.
        closeness: of every column; None = all are near.
        k: 1 to N.
    """
    values = worth.detach().numpy()
    column = values.argmax(axis=1)[:, None]
    if closeness is not None:
        close = closeness.detach().numpy()
        closer = (close > np.take_along_axis(close, column, axis=1)).sum(axis=1)
        far = np.flatnonzero(closer >= k)
        if len(far):
            rank = close.shape[1] - k
            limit = np.partition(close[far], rank, axis=1)[:, rank : rank + 1]
            column[far] = np.where(close[far] >= limit, values[far], -np.inf).argmax(axis=1)[:, None]
    return torch.from_numpy(np.take_along_axis(values, column, axis=1)), torch.from_numpy(column)


def neighbour_gap(at_proto: Float[Tensor, " P"], at_nearest: Float[Tensor, " P"]) -> Float[Tensor, ""]:
    """Mean of [Q(s, â) − Q(s, NN(â))]²: how much the critic says of a point that is no item, beside what it says of the
    nearest one. Only the first is moved: the item's value is what the data speak about.
    """
    return (at_proto - at_nearest.detach()).square().mean()


def expected_best(
    q: Float[Tensor, "*A"],
    *,
    half_width: Float[Tensor, "*A"],
    loss: Float[Tensor, "*A"],
    bad: Float[Tensor, "*A"],
    k: Float[Tensor, "*A"],
) -> Float[Tensor, "*A"]:
    """Expected largest value among k neighbours of a proto-action (Dulac-Arnold et al. 2015, lemma 1).

        E = Q + b − [p^k (c − b) + (2b / (k + 1)) (1 − p^{k+1}) / (1 − p)]

    Each neighbour is bad with chance p and then worth exactly Q − c, else uniform on [Q − b, Q + b]. At p = 1 all are
    bad: E = Q − c, which is the limit.

    Args:
        q: Q.
        half_width: b ≥ 0.
        loss: c ≥ b.
        bad: p in [0, 1].
        k: neighbours, ≥ 1.
    """
    good = 1 - bad
    # (1 − p^{k+1}) / (1 − p) with x = 1 − p: −expm1((k + 1) log1p(−x)) / x, which goes to k + 1
    ratio = -torch.expm1((k + 1) * torch.log1p(-good)) / torch.where(good > 0, good, torch.ones_like(good))
    ratio = torch.where(good > 0, ratio, k + 1)
    return q + half_width - (bad**k * (loss - half_width) + 2 * half_width / (k + 1) * ratio)
