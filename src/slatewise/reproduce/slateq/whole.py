"""Full-slate Q-learning, the expensive comparison: every slate is an action of its own (Ie et al. 2019, sec. 6.2).

Q(s, A) is a network of the state and the features of all items of the slate; the best slate is found by looking at all
C! / (K! (C − K)!) of them, in the order of the candidate list.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.nn.choice import network
from slatewise.nn.state_dict import under
from slatewise.reproduce._learning import cpu_timed
from slatewise.reproduce.slateq.runs import BestSlates, encoder, measure, size_of, world
from slatewise.rollout.off_policy import learn_off_policy
from slatewise.seeds import stream_seed
from slatewise.sim.interest_evolution import Config, Env
from slatewise.types import Trajectories

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
        best = [
            self.values(states, topics).max(dim=1)
            for states, topics in zip(torch.split(state, CHUNK), torch.split(topic, CHUNK), strict=True)
        ]
        return self.slates[torch.cat([part.indices for part in best])], torch.cat([part.values for part in best])


class Learner:
    """Q-learning of whole slates with a target network that follows slowly."""

    single_pass = False

    def __init__(self, env: Env, hidden: tuple[int, int], *, generator: Generator) -> None:
        self.config = env.config
        self.values = WholeSlate(env.config, hidden, generator=generator)
        self.target = copy.deepcopy(self.values).requires_grad_(False)
        self.optimiser = torch.optim.RMSprop(self.values.parameters(), lr=LR, alpha=0.95, eps=1e-5, centered=True)
        self.policy = BestSlates(encoder(env), env.catalog.num_rows, self._best)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step towards r + γ max Q' on single steps."""
        assert trajectories.candidates is not None
        topics = _topic(trajectories.candidates[:, 1], self.config)
        following = self.target.best(trajectories.context[:, 1], topics)[1]
        target = trajectories.reward[:, 0].sum(dim=1) + GAMMA * following * ~trajectories.terminated[:, 0]
        # a slate in another order is the same slate: it is read in the order of the candidate list
        shown = torch.sort((trajectories.slate[:, 0] - FIRST_ITEM), dim=1).values % self.config.num_topics
        loss = (self.values.value(trajectories.context[:, 0], shown) - target).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.values.parameters(), strict=True):
                slow.lerp_(fast, RATE)
        return {"loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Tensor]:
        """Both networks."""
        networks = {"values": self.values, "target": self.target}
        return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        for name, net in (("values.", self.values), ("target.", self.target)):
            net.load_state_dict(under(name, state))

    def _best(self, state: Float[Tensor, "B D"], candidates: Int[Tensor, "B C"]) -> Int[Tensor, "B K"]:
        return self.values.best(state, _topic(candidates, self.config))[0]


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn by interaction with the same schedule as SlateQ, and measure."""
    size, seed = size_of(settings), settings["seed"]
    generator = Generator().manual_seed(stream_seed(seed, 3))
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    learner = Learner(env, tuple(settings["hidden"]), generator=generator)
    learn = partial(learn_off_policy, env, learner, size.interaction, seed=stream_seed(seed, 4), generator=generator)
    _, seconds = cpu_timed(learn)
    metrics = measure(learner.policy, env.config, users=size.measured, seed=stream_seed(seed, 6))
    return {"seconds": seconds, "served": {"": metrics}}


def _topic(items: Int[Tensor, "*A"], config: Config) -> Int[Tensor, "*A"]:
    return (items - FIRST_ITEM) % config.num_topics
