"""How long FCPO takes for a list, beside the same list item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from slatewise.log import PAD
from slatewise.methods import fcpo
from slatewise.ops.history import uses_of
from slatewise.protocols import Carry
from slatewise.reproduce._timing import cpu_seconds
from slatewise.reproduce.fcpo.runs import Experiment, fresh
from slatewise.rollout.play import Arm, play
from slatewise.types import Observation, SlateRequest, Uses


@torch.no_grad()
def speed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Time of a list in one pass beside single picks, each of which is one pass and one step of the encoder."""
    experiment = Experiment(**settings["experiment"])
    policy, k = fresh(experiment, seed=0).policy, experiment.slate_size
    results: dict[str, Any] = {}
    for batch in (1, 64):
        _, step, observation = next(play(experiment.env("train", batch), [Arm(policy=policy)], seed=0))
        carry = policy.encoder.step(policy.encoder.initial(batch), uses_of(step))
        state = policy.encoder.state(carry, observation)
        works: dict[str, Callable[[], object]] = {
            "list": partial(policy.recommend, state, SlateRequest(k=k)),
            "picks": partial(_single_picks, policy, k, carry, state, observation=observation, moving=True),
            "bare": partial(_single_picks, policy, k, carry, state, observation=observation, moving=False),
        }
        repeat = {name: partial(_repeat, work, settings["repeats"]) for name, work in works.items()}
        seconds = cpu_seconds(repeat, blocks=settings["turns"])
        results[str(batch)] = {
            "ratio": median(a / b for a, b in zip(seconds["picks"], seconds["list"], strict=True)),
            "bare": median(a / b for a, b in zip(seconds["bare"], seconds["list"], strict=True)),
            "milliseconds": 1000 * median(seconds["list"]) / settings["repeats"],
        }
    return results


def _repeat(work: Callable[[], object], times: int, block: int) -> None:
    del block
    for _ in range(times):
        work()


def _single_picks(
    policy: fcpo.Policy, k: int, carry: Carry, state: Tensor, *, observation: Observation, moving: bool
) -> None:
    """K lists of one, what was shown excluded; with `moving`, each as if it had been used."""
    shown = torch.zeros(len(state), 0, dtype=torch.int64)
    for _ in range(k):
        slates = policy.recommend(state, SlateRequest(k=1, exclude=shown))
        shown = torch.cat([shown, slates.items], dim=1)
        if moving:
            item, reward = slates.items, torch.ones_like(slates.logp)
            uses = Uses(item=item, reward=reward, time=torch.zeros_like(item), present=item != PAD)
            carry = policy.encoder.step(carry, uses)
            state = policy.encoder.state(carry, observation)
