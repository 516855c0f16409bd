"""Full-slate Q-learning, the expensive comparison: every slate is an action of its own (Ie et al. 2019, sec. 6.2).

Q(s, A) is a network of the state and the features of all items of the slate; the best slate is found by looking at all
C! / (K! (C − K)!) of them, in the order of the candidate list.
"""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.nn.choice import network
from slatewise.ops.slates import uniform_slates
from slatewise.reproduce.slateq.runs import Size, _played, world
from slatewise.rollout.off_policy import Schedule
from slatewise.rollout.replay import Replay
from slatewise.seeds import stream_seed
from slatewise.sim.interest_evolution import Config, Env
from slatewise.types import Observation, Slates

CHUNK = 32
"""Users looked at together: their numbers fit into the cache."""
GAMMA, RATE, LR = 0.99, 0.02, 1e-3


class WholeSlate(nn.Module):
    """Q(s, A) of every slate; the first layer is linear in each item, so its parts are computed once per item."""

    def __init__(self, config: Config, hidden: tuple[int, int], *, generator: Generator) -> None:
        super().__init__()
        self.config = config
        topics, size = config.num_topics, config.slate_size
        inputs = topics * (1 + size)
        self.net = network([inputs, *hidden, 1], generator=generator)
        self.slates = torch.tensor(list(itertools.combinations(range(config.num_candidates), size)))

    def values(self, state: Float[Tensor, "B D"], topic: Int[Tensor, "B C"]) -> Float[Tensor, "B V"]:
        """Q of all slates from candidates of these topics."""
        first = self.net[0]
        weight, bias = first.weight, first.bias
        topics = self.config.num_topics
        hidden = (state @ weight[:, :topics].T + bias).unsqueeze(1)  # type: ignore[index, operator]
        for position in range(self.config.slate_size):
            start = topics * (1 + position)
            part = weight[:, start : start + topics].T[topic]  # type: ignore[index]
            hidden = hidden + part[:, self.slates[:, position]]
        values: Tensor = self.net[1:](hidden).squeeze(2)
        return values

    def value(self, state: Float[Tensor, "B D"], topic: Int[Tensor, "B K"]) -> Float[Tensor, " B"]:
        """Q of one slate of these topics."""
        rows = nn.functional.one_hot(topic, self.config.num_topics).to(state.dtype).flatten(1)
        value: Tensor = self.net(torch.cat([state, rows], dim=1)).squeeze(1)
        return value

    @torch.no_grad()
    def best(
        self, state: Float[Tensor, "B D"], topic: Int[Tensor, "B C"]
    ) -> tuple[Int[Tensor, "B K"], Float[Tensor, " B"]]:
        """Columns of the best slate of each user, and its value."""
        found = [
            self.values(some, topics).max(dim=1)
            for some, topics in zip(torch.split(state, CHUNK), torch.split(topic, CHUNK), strict=True)
        ]
        return self.slates[torch.cat([part.indices for part in found])], torch.cat([part.values for part in found])


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Learn by interaction with the same schedule as SlateQ, and measure."""
    size, seed, config = Size(**settings["size"]), settings["seed"], world(settings["world"])
    generator = Generator().manual_seed(stream_seed(seed, 3))
    fast = WholeSlate(config, tuple(settings["hidden"]), generator=generator)
    slow = copy.deepcopy(fast).requires_grad_(False)
    started = time.process_time()
    _learn(fast, slow, config, size=size, generator=generator, seed=seed)
    seconds = time.process_time() - started

    def serve(state: Float[Tensor, "B D"], seen: Observation) -> Int[Tensor, "B K"]:
        assert seen.candidates is not None
        return seen.candidates.gather(1, fast.best(state, _topic(seen.candidates, config))[0])

    figures = _played(serve, config, users=size.measured, seed=stream_seed(seed, 6))
    return {"seconds": seconds, "served": {"": figures}}


def _learn(fast: WholeSlate, slow: WholeSlate, config: Config, *, size: Size, generator: Generator, seed: int) -> None:
    env = Env(config, num_users=size.users, threads=1)
    schedule = Schedule(steps=size.steps, updates=size.updates, epsilon_steps=size.steps // 3)
    optimiser = torch.optim.RMSprop(fast.parameters(), lr=LR, alpha=0.95, eps=1e-5, centered=True)
    replay, seen = Replay(size.steps), env.reset(seed=stream_seed(seed, 4))
    none = torch.zeros(size.users, config.slate_size)
    for number in range(size.steps):
        assert seen.candidates is not None
        drawn, _ = uniform_slates(seen.candidates, config.slate_size, generator=generator)
        explores = torch.rand(size.users, 1, generator=generator) < schedule.exploration(number)
        best = seen.candidates.gather(1, fast.best(seen.context, _topic(seen.candidates, config))[0])
        step, after = env.step(Slates(items=torch.where(explores, drawn, best), logp=none))
        replay.add(seen, step)
        seen = after
        if number < schedule.warm_up:
            continue
        for _ in range(size.updates):
            batch = replay.sample(size.batch, generator=generator)
            assert batch.candidates is not None
            after_topics = _topic(batch.candidates[:, 1], config)
            following = slow.best(batch.context[:, 1], after_topics)[1]
            target = batch.reward[:, 0].sum(dim=1) + GAMMA * following * ~batch.terminated[:, 0]
            # a slate in another order is the same slate: it is read in the order of the candidate list
            shown = torch.sort((batch.slate[:, 0] - FIRST_ITEM), dim=1).values % config.num_topics
            loss = (fast.value(batch.context[:, 0], shown) - target).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                for behind, ahead in zip(slow.parameters(), fast.parameters(), strict=True):
                    behind.lerp_(ahead, RATE)


def _topic(items: Int[Tensor, "*A"], config: Config) -> Int[Tensor, "*A"]:
    return (items - FIRST_ITEM) % config.num_topics
