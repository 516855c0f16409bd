"""Policies in an environment: what they show is recorded with the propensity it was shown with, or only added up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.log import PAD
from slatewise.ops.history import uses_of
from slatewise.protocols import Carry, Env, Policy, StateEncoder
from slatewise.seeds import stream_seed
from slatewise.types import Exploration, Observation, SlateRequest, Slates, Step, Uses

Record = TypeVar("Record", Step, Observation)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A policy that serves a share of an environment's users.

    Raises:
        InputError: a share that is not above 0.
    """

    policy: Policy
    policy_id: int = 0
    """Number under which the log names it."""
    share: float = 1.0
    """Its part of the users, relative to the other arms."""
    exploration: Exploration | None = None

    def __post_init__(self) -> None:
        if not self.share > 0 or math.isinf(self.share):
            raise input_error(f"arm {self.policy_id} has the share {self.share}; expected a finite number above 0")


def play(
    env: Env, arms: Sequence[Arm], *, seed: int, exclude_last: int = 0, sessions: int | None = None
) -> Iterator[tuple[Observation, Step, Observation]]:
    """Serve an environment: what was seen, what happened (policy and propensities named), what is seen next.

    Users are dealt to the arms place by place, in proportion to the shares and at random; a place keeps its arm.

    Args:
        env: is reset with `seed`.
        arms: who serves; their policies draw from one generator that the env does not touch.
        seed: of the env, the dealing and the draws, each with a stream of its own.
        exclude_last: how many of the items that a user used last are not shown to them again.
        sessions: of each place, after which no policy serves it: it is shown its first candidates until all places
            are done. None = serve all for ever.

    Raises:
        InputError: no arm, or more arms than users.
    """
    generator = Generator().manual_seed(stream_seed(seed, 1))
    left = torch.full((env.num_users,), sessions or 1)
    parts = _deal(env.num_users, arms, Generator().manual_seed(stream_seed(seed, 2)))
    with torch.no_grad():
        observation = env.reset(seed=seed)
        encoders = [arm.policy.encoder for arm in arms]
        carries = [encoder.initial(len(part)) for encoder, part in zip(encoders, parts, strict=True)]
        states = [_state(*arm, observation) for arm in zip(encoders, carries, parts, strict=True)]
        last = torch.zeros(env.num_users, exclude_last, dtype=torch.int64)
    while bool((left > 0).any()):
        # left before each yield: a generator that waits inside would keep its caller without gradients
        with torch.no_grad():
            items, logp, policy_id = _without_policy(env, None if sessions is None else observation.candidates)
            remembered = int((last != PAD).any(dim=0).sum())
            for arm, part, state in zip(arms, parts, states, strict=True):
                served = left[part] > 0
                rows = part[served]
                if not len(rows):
                    continue
                request = SlateRequest(
                    k=env.slate_size,
                    candidates=None if observation.candidates is None else observation.candidates[rows],
                    exclude=last[rows, :remembered] if exclude_last else None,
                    exploration=arm.exploration,
                )
                slates = arm.policy.recommend(state[served], request, generator=generator)
                items[rows], logp[rows], policy_id[rows] = slates.items, slates.logp.float(), arm.policy_id
            happened, next_observation = env.step(Slates(items=items, logp=logp))
            happened = replace(happened, policy_id=policy_id)
            somebody_new = next_observation.user != observation.user
            if exclude_last:
                last = _remember(last, uses_of(happened)).masked_fill(somebody_new.unsqueeze(1), PAD)
            carries = [
                carry_after(encoder, carry, _rows(happened, part), somebody_new[part])
                for encoder, carry, part in zip(encoders, carries, parts, strict=True)
            ]
            states = [_state(*arm, next_observation) for arm in zip(encoders, carries, parts, strict=True)]
        yield observation, happened, next_observation
        observation = next_observation
        if sessions is not None:
            left -= (happened.terminated | happened.truncated).long()


def _deal(num_users: int, arms: Sequence[Arm], generator: Generator) -> list[Int[Tensor, " _"]]:
    if not 1 <= len(arms) <= num_users:
        raise input_error(f"{len(arms)} arms for {num_users} users: expected 1 to {num_users}")
    bounds = np.cumsum([arm.share for arm in arms])
    cuts = np.rint(bounds / bounds[-1] * num_users).astype(int)
    order = torch.randperm(num_users, generator=generator)
    return [torch.sort(part).values for part in torch.tensor_split(order, [int(cut) for cut in cuts[:-1]])]


def _without_policy(
    env: Env, candidates: Int[Tensor, "B C"] | None
) -> tuple[Int[Tensor, "B K"], Float[Tensor, "B K"], Int[Tensor, " B"]]:
    """Items, logp and policy numbers of users whom no policy serves: their first candidates, or nothing."""
    items = torch.zeros(env.num_users, env.slate_size, dtype=torch.int64)
    if candidates is not None:
        items = candidates[:, : env.slate_size].clone()
    return items, torch.zeros(env.num_users, env.slate_size), torch.zeros(env.num_users, dtype=torch.int64)


def _state(encoder: StateEncoder, carry: Carry, part: Int[Tensor, " P"], observation: Observation) -> Tensor:
    return encoder.state(carry, _rows(observation, part))


def carry_after(encoder: StateEncoder, carry: Carry, happened: Step, somebody_new: Bool[Tensor, " B"]) -> Carry:
    """Memory after a step; that of somebody new where a session ended and another user came."""
    carry = encoder.step(carry, uses_of(happened))
    if not bool(somebody_new.any()):
        return carry
    return torch.where(somebody_new.unsqueeze(1), encoder.initial(len(somebody_new)), carry)


def _remember(last: Int[Tensor, "B X"], uses: Uses) -> Int[Tensor, "B X"]:
    """The items used last, with those that were used now in front."""
    for item, present in zip(uses.item.unbind(dim=1), uses.present.unsqueeze(2).unbind(dim=1), strict=True):
        last = torch.where(present, torch.cat([item.unsqueeze(1), last[:, :-1]], dim=1), last)
    return last


def _rows(record: Record, part: Int[Tensor, " P"]) -> Record:
    if len(part) == len(record.user):
        return record
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(record, **{name: value[part] for name, value in values.items() if value is not None})
