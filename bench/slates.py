"""The best slate of K among C candidates for thousands of users at once: three optimisers, beside a floor.

The floor is one look for the K largest of every row (NumPy's partition, the fastest that we know on this kind of
machine); Dinkelbach's method does a few of them. The linear program is SciPy's HiGHS, one user after the other, on few
users: its time is given for one.

    python bench/slates.py [--json] [--quick] [--users 4096] [--rounds 15]
"""

from __future__ import annotations

import time
from typing import Any

from _run import draw, finish, in_turns, medians, parser, ratio

# isort: split
import numpy as np
import torch
from torch import Generator

from slatewise.ops.slates import dinkelbach, greedy, linear_program, top_k

SHAPES = ((3, 10), (3, 20), (3, 100), (10, 20), (10, 100), (10, 300), (10, 1000))
PROGRAMS = 20
"""Users of the linear program."""


def main() -> None:
    options = parser(__doc__, "slates")
    options.add_argument("--users", type=int, default=4096)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    begun = time.monotonic()
    rounds = 3 if given.quick else max(given.rounds, 15)
    rows = []
    for k, candidates in ((10, 100),) if given.quick else SHAPES:
        rows += shape(k, candidates, users=given.users, rounds=rounds, seed=given.seed)
    if not given.quick:
        draw(
            given,
            "slates of 10",
            x="candidates",
            y=f"ms for {given.users:,} users",
            curves={
                name: [(row["candidates"], row["ms"]) for row in rows if row["name"] == name and row["k"] == 10]
                for name in ("optimal", "greedy", "top-K", "floor")
            },
        )
    settings = {"users": given.users, "threads": given.threads, "rounds": rounds}
    finish(given, begun=begun, settings=settings, rows=rows, lines=[line(row) for row in rows])


def shape(k: int, candidates: int, *, users: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """One size of the problem; values of both signs, as they are with a value for "nothing picked"."""
    generator = Generator().manual_seed(seed)
    weight = torch.exp(torch.randn(users, candidates, generator=generator))
    value = torch.randn(users, candidates, generator=generator)
    null_weight, null_value = torch.full((users,), 2.7), torch.randn(users, generator=generator)
    free = torch.ones_like(weight, dtype=torch.bool)
    scores = (weight * value).numpy()

    def programs() -> None:
        for user in range(PROGRAMS):
            row = weight[user].double().numpy(), value[user].double().numpy()
            linear_program(*row, float(null_weight[user]), float(null_value[user]), k)

    works = {
        "optimal": lambda: dinkelbach(weight, value, null_weight, null_value, k, free=free),
        "greedy": lambda: greedy(weight, value, null_weight, null_value, k, free=free),
        "top-K": lambda: top_k(weight, value, null_value, k, free=free),
        "floor": lambda: np.argpartition(scores, candidates - k, axis=1)[:, candidates - k :],
        "linear program": programs,
    }
    found = in_turns(works, rounds)
    rows = []
    for name, taken in found.items():
        of = PROGRAMS if name == "linear program" else users
        seconds = medians(taken).seconds
        rows.append(
            {
                "name": name,
                "k": k,
                "candidates": candidates,
                "users": of,
                "ms": 1e3 * seconds,
                "us_a_user": 1e6 * seconds / of,
                "to_floor": ratio(taken, found["floor"]) * users / of,
            }
        )
    return rows


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    return (
        f"{row['k']} of {row['candidates']}, {row['name']}: {row['ms']:.2f} ms for {row['users']:,} users "
        f"({row['us_a_user']:.2f} µs each), {row['to_floor']:.1f}× the floor"
    )


if __name__ == "__main__":
    main()
