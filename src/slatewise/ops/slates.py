"""The best slate of K items when the user chooses at most one: top-K, greedy and optimal.

Ie et al., "SlateQ", IJCAI 2019 (arXiv 1905.12767), sec. 5: maximise over slates A of exactly K items

    F(A) = (v_0 q_0 + Σ_{i∈A} v_i q_i) / (v_0 + Σ_{i∈A} v_i)

with choice weights v ≥ 0, long-term values q of either sign, and index 0 for choosing nothing. Everything is batched
over users; columns are positions in the candidate list.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linprog
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.ops.choice import check_weights
from slatewise.ops.largest import largest_columns

Optimiser = Literal["top_k", "greedy", "optimal"]
MOST_ROUNDS = 64
TABLE = 1 << 16


def best_slates(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_weight: Float[Tensor, " B"],
    null_value: Float[Tensor, " B"],
    k: int,
    *,
    optimiser: Optimiser,
    free: Bool[Tensor, "B C"] | None = None,
) -> Int[Tensor, "B K"]:
    """Columns of the best slates by an optimiser; −1 where no candidate is left.

    Args:
        weight: v ≥ 0.
        value: q, finite.
        null_weight: v_0 ≥ 0.
        null_value: q_0.
        k: slate size, at most C.
        optimiser: top_k, greedy or optimal.
        free: True for candidates that may be shown; None = all.

    Raises:
        InputError: a slate larger than the candidates, NaN values, or weights that define no distribution.
    """
    check_problem(weight, value, null_weight, null_value, k)
    if free is None:
        free = torch.ones_like(weight, dtype=torch.bool)
    if optimiser == "greedy":
        return greedy(weight, value, null_weight, null_value, k, free=free)
    if optimiser == "optimal":
        return dinkelbach(weight, value, null_weight, null_value, k, free=free)[0]
    return top_k(weight, value, null_value, k, free=free)


def check_problem(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_weight: Float[Tensor, " B"],
    null_value: Float[Tensor, " B"],
    k: int,
) -> None:
    """Refuse weights and values for which no best slate exists.

    Args:
        weight: (B, C) v ≥ 0.
        value: (B, C) q, finite.
        null_weight: (B,) v_0 ≥ 0.
        null_value: (B,) q_0.
        k: slate size, at most C.

    Raises:
        InputError: a slate larger than the candidates, NaN or infinite values, or weights that define no distribution.
    """
    if not 1 <= k <= weight.shape[1]:
        raise input_error(f"a slate of {k} from {weight.shape[1]} candidates: choose 1 to {weight.shape[1]}")
    for name, numbers in (("value", value), ("null_value", null_value.unsqueeze(1))):
        wrong = ~torch.isfinite(numbers)
        if bool(wrong.any()):
            row, column = (int(x) for x in wrong.nonzero()[0])
            raise input_error(
                f"{name} of user {row}, candidate {column} is {float(numbers[row, column])}; expected a finite number",
                advice="The weights of the critic or its input are broken.",
            )
    check_weights(torch.cat([weight, null_weight.unsqueeze(1)], dim=1))


def slate_value(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_weight: Float[Tensor, " B"],
    null_value: Float[Tensor, " B"],
    columns: Int[Tensor, "B K"],
) -> Float[Tensor, " B"]:
    """F of slates (eq. 14).

    A slate of weight 0 with a null weight of 0 gets the limit for v_0 → 0, the value of choosing nothing.

    Args:
        weight: (B, C) v ≥ 0.
        value: (B, C) q.
        null_weight: (B,) v_0 ≥ 0.
        null_value: (B,) q_0.
        columns: (B, K) the slates; −1 = an empty position.
    """
    shown = columns >= 0
    v = weight.gather(1, columns.clamp(min=0)).masked_fill(~shown, 0.0)
    q = value.gather(1, columns.clamp(min=0)).masked_fill(~shown, 0.0)
    total = null_weight + v.sum(dim=1)
    excess = (v * (q - null_value.unsqueeze(1))).sum(dim=1)
    return null_value + excess / total.clamp_min(torch.finfo(total.dtype).tiny)


def top_k(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_value: Float[Tensor, " B"],
    k: int,
    *,
    free: Bool[Tensor, "B C"],
) -> Int[Tensor, "B K"]:
    """TS: sort by v (q − q_0), the contribution of an item relative to choosing nothing.

    The paper sorts by v q, the same for its q_0 = 0. With a learned q_0 only the difference makes sense, because adding
    a
    constant to all values must not change the slate.

    Args:
        weight: (B, C) v ≥ 0.
        value: (B, C) q.
        null_value: (B,) q_0.
        k: slate size, at most C.
        free: (B, C) True for candidates that may be shown.
    """
    return _largest(weight * (value - null_value.unsqueeze(1)), k, free)


def greedy(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_weight: Float[Tensor, " B"],
    null_value: Float[Tensor, " B"],
    k: int,
    *,
    free: Bool[Tensor, "B C"],
) -> Int[Tensor, "B K"]:
    """GS: add the item with the best (v_0 q_0 + Σ_{l∈A} v_l q_l + v_i q_i) / (v_0 + Σ_{l∈A} v_l + v_i), K times.

    Optimal for K = 1 and K = C. Where every q ≥ q_0, F(greedy) − q_0 ≥ (F* − q_0)/K, and no better bound holds.

    Args:
        weight: (B, C) v ≥ 0.
        value: (B, C) q.
        null_weight: (B,) v_0 ≥ 0.
        null_value: (B,) q_0.
        k: slate size, at most C.
        free: (B, C) True for candidates that may be shown.
    """
    excess = weight * (value - null_value.unsqueeze(1))
    total, slate_excess = null_weight.unsqueeze(1), torch.zeros_like(null_weight).unsqueeze(1)
    blocked, slates = ~free, []
    tiny = torch.finfo(weight.dtype).tiny
    for _ in range(k):
        value_with_item = (slate_excess + excess) / (total + weight).clamp_min(tiny)
        best, column = value_with_item.masked_fill(blocked, -torch.inf).max(dim=1, keepdim=True)
        nothing_left = best == -torch.inf
        total = total + weight.gather(1, column).masked_fill(nothing_left, 0.0)
        slate_excess = slate_excess + excess.gather(1, column).masked_fill(nothing_left, 0.0)
        blocked = blocked.scatter(1, column, True)
        slates.append(column.masked_fill(nothing_left, -1))
    return torch.cat(slates, dim=1)


def dinkelbach(
    weight: Float[Tensor, "B C"],
    value: Float[Tensor, "B C"],
    null_weight: Float[Tensor, " B"],
    null_value: Float[Tensor, " B"],
    k: int,
    *,
    free: Bool[Tensor, "B C"],
) -> tuple[Int[Tensor, "B K"], Float[Tensor, " B"]]:
    """OS: the optimum of the fractional program: repeat "top-K of v (q − μ), μ ← F of that slate" (Dinkelbach 1967).

    From the value of a slate on, μ can only increase (this is Newton's method on a convex function of μ), and a slate
    that is top-K at its own value is optimal. It takes a handful of rounds and is exact up to rounding.

    Args:
        weight: (B, C) v ≥ 0.
        value: (B, C) q.
        null_weight: (B,) v_0 ≥ 0.
        null_value: (B,) q_0.
        k: slate size, at most C.
        free: (B, C) True for candidates that may be shown.

    Returns:
        columns: the best slates, in descending order of v (q − μ).
        value: μ = F of them.
    """
    # NumPy: its partition and sums of short rows take a third of torch's time on a CPU
    v, q, v0, q0 = (x.detach().cpu().numpy() for x in (weight, value, null_weight, null_value))
    admitted = None if bool(free.all()) else free.cpu().numpy()
    chosen, best = np.zeros(v.shape, np.bool_), np.full_like(q0, -np.inf)
    # values of μ that differ by less are equal up to rounding
    same = 8 * np.finfo(v.dtype).eps * (np.abs(q).max(axis=1) + np.abs(q0))
    excess, active, mu, reached = v * (q - q0[:, None]), np.arange(len(v)), q0, best
    for _ in range(MOST_ROUNDS):
        scores = q - mu[:, None]
        scores *= v
        best_set = _largest_set(scores, k, admitted)
        mask = best_set.astype(v.dtype)
        total = v0 + np.einsum("bc,bc->b", v, mask)
        mu = q0 + np.einsum("bc,bc->b", excess, mask) / np.maximum(total, np.finfo(v.dtype).tiny)
        improves = mu > reached + same
        if not improves.all():
            active, best_set, mu = active[improves], best_set[improves], mu[improves]
            v, q, v0, q0, excess, same = (x[improves] for x in (v, q, v0, q0, excess, same))
            admitted = None if admitted is None else admitted[improves]
            if not len(active):
                break
        chosen[active], best[active], reached = best_set, mu, mu
    slate, mean = torch.from_numpy(chosen).to(weight.device), torch.from_numpy(best).to(weight.device)
    return _largest(weight * (value - mean.unsqueeze(1)), k, slate), mean


def linear_program(
    weight: Float[np.ndarray, " C"], value: Float[np.ndarray, " C"], null_weight: float, null_value: float, k: int
) -> tuple[Int[np.ndarray, " K"], float]:
    """OS of one user as a linear program (eq. 18–21, after Charnes and Cooper 1962), by HiGHS's dual simplex.

    max Σ y_i v_i q_i + t v_0 q_0  s.t.  t v_0 + Σ y_i v_i = 1, 0 ≤ y_i ≤ t, Σ y_i = K t; the reference of `dinkelbach`.

    Args:
        weight: (C,) v ≥ 0.
        value: (C,) q.
        null_weight: v_0 ≥ 0.
        null_value: q_0.
        k: slate size, at most C.

    Returns:
        columns: the items with y_i = t.
        value: F of them.

    Raises:
        InputError: a slate larger than the candidates, NaN, weights that define no distribution, or no optimum found.
    """
    count = len(weight)
    batched = (torch.from_numpy(x[None]) for x in (weight, value, np.array([null_weight]), np.array([null_value])))
    check_problem(next(batched), next(batched), next(batched)[0], next(batched)[0], k)
    # scale weights by their maximum, and values relative to q_0 by their range: the optimal slate does not change
    scale = max(float(weight.max(initial=0.0)), null_weight)
    value_range = max(float(np.abs(value - null_value).max(initial=0.0)), np.finfo(np.float64).tiny)
    v, v0 = weight / scale, null_weight / scale
    objective = -np.append(v * ((value - null_value) / value_range), 0.0)
    equal = np.vstack([np.append(v, v0), np.append(np.ones(count), -k)])
    below = np.hstack([np.eye(count), -np.ones((count, 1))])
    solved = linprog(
        objective,
        A_ub=below,
        b_ub=np.zeros(count),
        A_eq=equal,
        b_eq=np.array([1.0, 0.0]),
        bounds=(0, None),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solved.status != 0:
        raise input_error(f"the linear program of a slate has no optimum: {solved.message}")
    # a vertex of this polytope is a slate; its value is computed from the slate, free of the solver's tolerances
    columns = np.sort(np.argsort(-solved.x[:count], kind="stable")[:k])
    excess = float((v[columns] * (value[columns] - null_value)).sum() / (v0 + v[columns].sum()))
    return columns, null_value + excess


def uniform_slates(
    candidates: Int[Tensor, "B C"], k: int, *, generator: Generator
) -> tuple[Int[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Slates drawn without replacement, all ordered slates equally likely, and log 1/(C − position) per position.

    Args:
        candidates: items, none of them twice or 0.
        k: slate size, at most C.
        generator: source of the draws.

    Raises:
        InputError: a slate larger than the candidates.
    """
    batch, count = candidates.shape
    if not 1 <= k <= count:
        raise input_error(f"a slate of {k} from {count} candidates: choose 1 to {count}")
    if k == 1:  # a table of all slates would hold the columns themselves
        columns = torch.randint(count, (batch, 1), generator=generator)
    elif math.perm(count, k) <= TABLE:
        # few enough to enumerate all ordered slates: one random number per user
        table = _permutations(count, k)
        columns = table[torch.randint(len(table), (batch,), generator=generator)]
    else:
        columns = torch.rand(batch, count, generator=generator).topk(k, dim=1).indices
    logp = -torch.log(torch.arange(count, count - k, -1, dtype=torch.float32))
    return candidates.gather(1, columns), logp.repeat(batch, 1)


def _permutations(count: int, k: int) -> Int[Tensor, "P K"]:
    """All ordered choices of k of `count` columns, computed once per size."""
    key = (count, k)
    if key not in _PERMUTATIONS:
        rows = torch.arange(count).unsqueeze(1)
        for _ in range(k - 1):
            wider = torch.cat(
                [rows.repeat_interleave(count, 0), torch.arange(count).repeat(len(rows), 1).view(-1, 1)], 1
            )
            rows = wider[(wider[:, :-1] != wider[:, -1:]).all(dim=1)]
        _PERMUTATIONS[key] = rows
    return _PERMUTATIONS[key]


_PERMUTATIONS: dict[tuple[int, int], Tensor] = {}


def _largest_set(
    scores: Float[np.ndarray, "B C"], k: int, admitted: Bool[np.ndarray, "B C"] | None
) -> Bool[np.ndarray, "B C"]:
    """True at the k largest admitted scores, or at all if there are fewer; ties are broken arbitrarily.

    Changes `scores`. Finding the k-th largest value is three times faster than finding the positions of the k largest,
    and ties are rare.
    """
    if admitted is not None:
        scores[~admitted] = -np.inf
    rank = scores.shape[1] - k
    is_largest: Bool[np.ndarray, "B C"] = scores >= np.partition(scores, rank, axis=1)[:, rank : rank + 1]
    if admitted is not None:
        is_largest &= admitted
    if admitted is not None or np.count_nonzero(is_largest) > k * len(is_largest):
        tied = np.flatnonzero(is_largest.sum(axis=1) > k)
        positions = np.argpartition(scores[tied], rank, axis=1)[:, rank:]
        is_largest[tied] = False
        is_largest[tied[:, None], positions] = True
    return is_largest


def _largest(scores: Float[Tensor, "B C"], k: int, free: Bool[Tensor, "B C"]) -> Int[Tensor, "B K"]:
    scores = scores.masked_fill(~free, -torch.inf)
    columns = largest_columns(scores, k)
    return columns.masked_fill(scores.gather(1, columns) == -torch.inf, -1)
