"""User-steps a second of the environments, beside the reference implementation and beside the random numbers alone.

Ours goes through the public `Env.step`: full Step and Observation, slates drawn uniformly inside the timing, qualities
of all candidates drawn. The reference is RecSim without TensorFlow (recsim-no-tf 0.2.3 on gym 0.26), built in a
virtual environment of its own, one user in one process on one core, random slates as well; ours uses as many cores as
there are. All take turns, round by round. The floor draws the random numbers that a step cannot do without.

    python bench/simulators.py [--json] [--quick] [--users 262144] [--rounds 5]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from _peers import environment, running
from _run import Taken, cpu_ratio, draw, finish, in_turns, medians, parser, ratio, timed

# isort: split
import numpy as np
import torch
from torch import Generator

from slatewise import config
from slatewise.ops.slates import uniform_slates
from slatewise.protocols import Env
from slatewise.types import Observation, Slates

STEPS = 20
REFERENCE = """
import sys, time
import numpy as np
from recsim.environments import interest_evolution, interest_exploration, long_term_satisfaction
modules = {"interest_evolution": interest_evolution, "interest_exploration": interest_exploration,
           "long_term_satisfaction": long_term_satisfaction}
envs = {}
draw = np.random.RandomState(0)
for line in sys.stdin:
    name, candidates, size, steps = line.split()
    key = (name, int(candidates), int(size))
    if key not in envs:
        envs[key] = modules[name].create_environment(
            {"num_candidates": key[1], "slate_size": key[2], "resample_documents": True, "seed": 0})
        envs[key].reset()
    env = envs[key]
    cpu, begun = time.process_time(), time.perf_counter()
    for _ in range(int(steps)):
        _, _, done, _ = env.step(draw.choice(key[1], key[2], replace=False))
        if done:
            env.reset()
    print(time.perf_counter() - begun, time.process_time() - cpu, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """An environment and its shape."""

    name: str
    slate: int = 3
    candidates: int = 10

    def env(self, users: int) -> Env:
        """So many users of it."""
        module = config.find("sim", self.name)
        settings = module.Config(slate_size=self.slate, num_candidates=self.candidates)
        env: Env = module.Env(settings, num_users=users)
        return env


WORLDS = (World(name="interest_exploration"), World(name="long_term_satisfaction", slate=1))
SHAPES = ((1, 10), (3, 10), (5, 10), (10, 10), (3, 20), (3, 50), (3, 100), (10, 100))


def main() -> None:
    options = parser(__doc__, "simulators")
    options.add_argument("--users", type=int, default=1 << 18, help="at once")
    given = options.parse_args()
    begun = time.monotonic()
    users = 1 << 14 if given.quick else given.users
    rounds = 2 if given.quick else given.rounds
    peer_steps = 300 if given.quick else 1500
    python = environment(
        "recsim",
        alone=["recsim-no-tf==0.2.3"],
        others=["numpy<2", "scipy", "six", "attrs", "gym==0.26.2", "absl-py", "gin-config"],
    )
    rows: list[dict[str, Any]] = []
    with running(python, REFERENCE) as peer:
        for slate, candidates in SHAPES[:2] if given.quick else SHAPES:
            world = World(name="interest_evolution", slate=slate, candidates=candidates)
            rows.append({"what": "shape"} | beside(world, users, rounds, peer_steps, peer.ask))
        rows += [beside(world, users, rounds, peer_steps, peer.ask) for world in WORLDS]
    crowds = (1, 64, 4096) if given.quick else (1, 16, 256, 4096, 1 << 16, 1 << 18)
    rows += [crowd(number, rounds) for number in crowds]
    shapes = [row for row in rows if row.get("what") == "shape"]
    draw(
        given,
        "slates and candidates",
        x="candidates",
        y="user-steps a second",
        curves={
            f"{who}, slates of {size}": [(row["candidates"], row[key]) for row in shapes if row["slate"] == size]
            for size in sorted({row["slate"] for row in shapes})
            for who, key in (("slatewise", "steps_per_second"), ("RecSim", "reference_steps_per_second"))
        },
    )
    settings = {"users": users, "steps": STEPS, "reference_steps": peer_steps, "rounds": rounds}
    finish(given, begun=begun, settings=settings, rows=rows, lines=[line(row) for row in rows])


def player(env: Env) -> Callable[[], None]:
    """Work: STEPS steps of all users with random slates, then on from where they are."""
    generator = Generator().manual_seed(0)
    seen: list[Observation] = [env.reset(seed=0)]

    def work() -> None:
        for _ in range(STEPS):
            candidates = seen[0].candidates
            assert candidates is not None
            items, logp = uniform_slates(candidates, env.slate_size, generator=generator)
            _, seen[0] = env.step(Slates(items=items, logp=logp))

    return work


def beside(world: World, users: int, rounds: int, peer_steps: int, ask: Callable[[str], list[float]]) -> dict[str, Any]:
    """One world and shape: ours, the reference, and the floor, in turns."""
    work, least = player(world.env(users)), floor(users, world.candidates)
    question = f"{world.name} {world.candidates} {world.slate} {peer_steps}"
    ours, reference, bare = [], [], []
    for turn in range(rounds + 1):
        taken, bottom = timed(work), timed(least)
        seconds, cpu_seconds = ask(question)
        if turn:
            ours.append(taken)
            bare.append(bottom)
            reference.append(Taken(seconds=seconds, cpu_seconds=cpu_seconds))
    played = users * STEPS / peer_steps
    return {
        **asdict(world),
        "users": users,
        "steps_per_second": users * STEPS / medians(ours).seconds,
        "reference_steps_per_second": peer_steps / medians(reference).seconds,
        "times_the_reference": played * ratio(reference, ours),
        "times_the_reference_per_cpu_second": played * cpu_ratio(reference, ours),
        "to_floor": ratio(ours, bare),
    }


def floor(users: int, count: int) -> Callable[[], None]:
    """Work: per step, a slate's number, C documents as 16-bit numbers, and the two random numbers of a choice."""
    generator, slates = np.random.Generator(np.random.SFC64(0)), Generator().manual_seed(0)

    def work() -> None:
        for _ in range(STEPS):
            torch.randint(720, (users,), generator=slates)
            generator.integers(1 << 16, size=(users, count), dtype=np.uint16)
            generator.random((2, users), dtype=np.float32)

    return work


def crowd(users: int, rounds: int) -> dict[str, Any]:
    """How the speed grows with the number of users at once."""
    world = World(name="interest_evolution")
    taken = medians(in_turns({world.name: player(world.env(users))}, rounds)[world.name])
    return {"what": "crowd", **asdict(world), "users": users, "steps_per_second": users * STEPS / taken.seconds}


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    if "reference_steps_per_second" not in row:
        return f"{row['name']}, {row['users']:,} users at once: {row['steps_per_second']:,.0f} user-steps/s"
    return (
        f"{row['name']}, slate {row['slate']} of {row['candidates']}: {row['steps_per_second']:,.0f} user-steps/s, "
        f"reference {row['reference_steps_per_second']:,.0f}: {row['times_the_reference']:,.0f}× "
        f"({row['times_the_reference_per_cpu_second']:,.0f}× per CPU second); "
        f"{row['to_floor']:.1f}× the time of its random numbers alone"
    )


if __name__ == "__main__":
    main()
