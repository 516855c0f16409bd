"""A simulator behind Gymnasium's two interfaces; see slatewise.gymnasium for what is seen and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

import gymnasium
from gymnasium import spaces
from slatewise import config as configs
from slatewise.errors import located
from slatewise.log import FIRST_ITEM, PAD
from slatewise.protocols import ContextOfCandidates
from slatewise.types import Observation, Slates, Step

Seen = dict[str, NDArray[np.float32]]
LIMIT = 1e30
"""Bounds must be finite; these are beyond all that occurs."""
SEEDS = 1 << 63


class _World:
    """A simulator with its spaces: observations as arrays, actions as slates."""

    def __init__(self, name: str, num_users: int, duplicates: str, settings: dict[str, Any]) -> None:
        if duplicates not in ("drop", "refuse"):
            raise located(f'duplicates is {duplicates!r}; expected "drop" or "refuse"')
        module = configs.find("sim", name)
        config = configs.convert(module.Config, settings, where=name)
        self.env = module.Env(config, num_users=num_users)
        self._refuse = duplicates == "refuse"
        self._features = np.asarray(self.env.catalog.features, np.float32)
        self._of_candidates = isinstance(self.env, ContextOfCandidates)
        self._silence = np.zeros((num_users, self.env.slate_size), np.float32)
        probe = module.Env(config, num_users=1).reset(seed=0)
        self._choices = self.env.catalog.num_items if probe.candidates is None else probe.candidates.shape[1]
        one = self._arrays(probe, self._silence[:1])
        self.observation_space = spaces.Dict(
            {
                part: spaces.Box(0.0 if part == "response" else -LIMIT, LIMIT, values.shape[1:], np.float32)
                for part, values in one.items()
            }
        )
        self.action_space = spaces.MultiDiscrete([self._choices] * self.env.slate_size)
        self.seen: Observation | None = None

    def reset(self, seed: int) -> Seen:
        """Start all over."""
        self.seen = self.env.reset(seed=seed)
        return self._arrays(self.seen, self._silence)

    def first(self) -> Seen:
        """What is seen of the users at the beginning of their sessions."""
        assert self.seen is not None
        return self._arrays(self.seen, self._silence)

    def step(self, action: Any) -> tuple[Step, Seen, Seen, NDArray[np.int64]]:
        """What happened, what is seen next, what was seen last of these users, and which position of the action it was.

        Raises:
            InputError: no reset yet, positions of another shape or range, or a repeated one that is to be refused.
        """
        if self.seen is None:
            raise located("nobody is there yet", advice="Call reset() before the first step.")
        positions = self._positions(action)
        items = positions + FIRST_ITEM
        if self.seen.candidates is not None:
            items = np.take_along_axis(self.seen.candidates.numpy(), positions, axis=1)
        items[self._repeated(positions)] = PAD
        # empty places come last in a slate; `order` leads from its positions to those of the action
        order = np.argsort(items == PAD, axis=1, kind="stable")
        shown = torch.from_numpy(np.take_along_axis(items, order, axis=1))
        step, after = self.env.step(Slates(items=shown, logp=torch.zeros(shown.shape)))
        response = np.zeros_like(self._silence)
        np.put_along_axis(response, order, step.reward.numpy().astype(np.float32), axis=1)
        chosen = step.choice.numpy()
        named = np.take_along_axis(order, np.maximum(chosen, 0)[:, None], axis=1)[:, 0]
        over = (step.terminated | step.truncated).numpy()
        last = self._arrays(self.seen, response)
        self.seen = after
        following = self._arrays(after, np.where(over[:, None], np.float32(0), response))
        return step, following, last, np.where(chosen >= 0, named, -1)

    def _arrays(self, seen: Observation, response: NDArray[np.float32]) -> Seen:
        """An observation, each array fresh."""
        arrays: Seen = {}
        context = seen.context.numpy().astype(np.float32)
        if context.shape[1] and not self._of_candidates:
            arrays["user"] = context
        if seen.candidates is not None:
            rows = self._features[seen.candidates.numpy()]
            if self._of_candidates:
                rows = np.concatenate([rows, context[:, :, None]], axis=2)
            if rows.shape[2]:
                arrays["candidates"] = rows
        arrays["response"] = response.copy()
        return arrays

    def _positions(self, action: Any) -> NDArray[np.int64]:
        positions = np.asarray(action)
        expected = (self.env.num_users, self.env.slate_size)
        if positions.shape != expected or positions.dtype.kind not in "iu":
            raise located(
                f"the action has the shape {positions.shape} and the type {positions.dtype}; "
                f"expected {expected} whole numbers"
            )
        wrong = np.argwhere((positions < 0) | (positions >= self._choices))
        if len(wrong):
            user, at = wrong[0]
            raise located(
                f"the action of user {user} has {positions[user, at]} at position {at}; "
                f"expected a place from 0 to {self._choices - 1}"
            )
        return positions.astype(np.int64)

    def _repeated(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        repeated = np.zeros(positions.shape, np.bool_)
        for distance in range(1, positions.shape[1]):
            repeated[:, distance:] |= positions[:, distance:] == positions[:, :-distance]
        if self._refuse and repeated.any():
            user, at = np.argwhere(repeated)[0]
            raise located(
                f"the action of user {user} names place {positions[user, at]} again at position {at}",
                advice='Show every item once, or make the environment with duplicates="drop".',
            )
        return repeated


class SingleEnv(gymnasium.Env[Any, Any]):
    """One user at a time."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(self, env: str, *, duplicates: str = "drop", **settings: Any) -> None:
        self._world = _World(env, 1, duplicates, settings)
        self.observation_space = self._world.observation_space
        self.action_space = self._world.action_space
        self._over = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """The next user; with a seed, or in the middle of a session, everything starts over."""
        _no_options(options)
        super().reset(seed=seed)
        if seed is None and self._over:
            seen = self._world.first()
        else:
            seen = self._world.reset(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        self._over = False
        return _row(seen, 0), self._info(-1)

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Show one slate.

        Raises:
            InputError: a session that is over, or an action that is none.
        """
        if self._over:
            raise located("the session is over", advice="Call reset() for the next user.")
        user = self._info(-1)["user"] if self._world.seen is not None else 0
        step, following, last, choice = self._world.step(np.asarray(action)[None])
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._over = terminated or truncated
        info = {"user": user, "choice": int(choice[0])}
        return _row(last if self._over else following, 0), float(step.reward.sum()), terminated, truncated, info

    def _info(self, choice: int) -> dict[str, Any]:
        assert self._world.seen is not None
        return {"user": int(self._world.seen.user[0]), "choice": choice}


class ManyEnvs(gymnasium.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """Many users at once; who leaves is replaced in the same step."""

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, env: str, *, num_envs: int = 1, duplicates: str = "drop", **settings: Any) -> None:
        if num_envs < 1:
            raise located(f"num_envs is {num_envs}; expected at least 1")
        self.num_envs = num_envs
        self._world = _World(env, num_envs, duplicates, settings)
        self.single_observation_space = self._world.observation_space
        self.single_action_space = self._world.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """New users everywhere; one seed is enough for all of them."""
        _no_options(options)
        if isinstance(seed, Sequence):
            raise located(f"seed is {seed!r}; all users come from one stream", advice="Give one whole number.")
        super().reset(seed=seed)
        seen = self._world.reset(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        return seen, self._infos(np.full(self.num_envs, -1))

    def step(self, actions: NDArray[np.int64]) -> tuple[Seen, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show one slate to everybody."""
        step, following, last, choice = self._world.step(actions)
        terminated, truncated = step.terminated.numpy(), step.truncated.numpy()
        infos = self._infos(choice)
        over = terminated | truncated
        if over.any():
            final = np.full(self.num_envs, None, dtype=object)
            for place in np.flatnonzero(over):
                final[place] = _row(last, int(place))
            infos |= {"final_obs": final, "_final_obs": over}
            gone = {"user": step.user.numpy(), "_user": over.copy(), "choice": choice.copy(), "_choice": over.copy()}
            infos |= {"final_info": gone, "_final_info": over.copy()}
        return following, step.reward.double().sum(dim=1).numpy(), terminated, truncated, infos

    def _infos(self, choice: NDArray[np.int64]) -> dict[str, Any]:
        assert self._world.seen is not None
        everybody = np.ones(self.num_envs, np.bool_)
        user = self._world.seen.user.numpy().copy()
        return {"user": user, "_user": everybody, "choice": choice, "_choice": everybody.copy()}


def _row(seen: Seen, place: int) -> Seen:
    return {part: values[place].copy() for part, values in seen.items()}


def _no_options(options: dict[str, Any] | None) -> None:
    if options:
        raise located(f"reset has no options; got {', '.join(map(str, options))}")
