"""Adapters of a simulator to Gymnasium's two interfaces; see slatewise.gymnasium for spaces and ends."""

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
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD
from slatewise.protocols import ContextOfCandidates
from slatewise.types import Observation, Slates, Step

Obs = dict[str, NDArray[np.float32]]
LIMIT = 1e30
"""Bounds of the boxes must be finite; no observation reaches these."""
SEEDS = 1 << 63


class _Adapter:
    """A simulator with its spaces: observations as arrays, actions as slates."""

    def __init__(self, name: str, num_users: int, duplicates: str, settings: dict[str, Any]) -> None:
        if duplicates not in ("drop", "refuse"):
            raise input_error(f'duplicates is {duplicates!r}; expected "drop" or "refuse"')
        module = configs.find("sim", name)
        config = configs.convert(module.Config, settings, where=name)
        self.env = module.Env(config, num_users=num_users)
        self._refuse = duplicates == "refuse"
        self._features = np.asarray(self.env.catalog.features, np.float32)
        self._of_candidates = isinstance(self.env, ContextOfCandidates)
        self._silence = np.zeros((num_users, self.env.slate_size), np.float32)
        probe = module.Env(config, num_users=1).reset(seed=0)
        self._choices = self.env.catalog.num_items if probe.candidates is None else probe.candidates.shape[1]
        arrays = self._arrays(probe, self._silence[:1])
        self.observation_space = spaces.Dict(
            {
                part: spaces.Box(0.0 if part == "response" else -LIMIT, LIMIT, values.shape[1:], np.float32)
                for part, values in arrays.items()
            }
        )
        self.action_space = spaces.MultiDiscrete([self._choices] * self.env.slate_size)
        self.observation: Observation | None = None

    def reset(self, seed: int) -> Obs:
        """Reset every user from a seed."""
        self.observation = self.env.reset(seed=seed)
        return self._arrays(self.observation, self._silence)

    def first(self) -> Obs:
        """Observations of users at the beginning of their sessions."""
        assert self.observation is not None
        return self._arrays(self.observation, self._silence)

    def step(self, action: Any) -> tuple[Step, Obs, Obs, NDArray[np.int64]]:
        """The step, the next observation, the final one of the same users, and the chosen position of the action.

        Raises:
            InputError: no reset yet, positions of another shape or range, or a repeated position to be refused.
        """
        if self.observation is None:
            raise input_error("the environment has not been reset", advice="Call reset() before the first step.")
        positions = self._positions(action)
        items = positions + FIRST_ITEM
        if self.observation.candidates is not None:
            items = np.take_along_axis(self.observation.candidates.numpy(), positions, axis=1)
        items[self._mark_repeats(positions)] = PAD
        # empty positions come last in a slate; `order` maps its positions to those of the action
        order = np.argsort(items == PAD, axis=1, kind="stable")
        shown = torch.from_numpy(np.take_along_axis(items, order, axis=1))
        step, next_observation = self.env.step(Slates(items=shown, logp=torch.zeros(shown.shape)))
        response = np.zeros_like(self._silence)
        np.put_along_axis(response, order, step.reward.numpy().astype(np.float32), axis=1)
        chosen = step.choice.numpy()
        action_position = np.take_along_axis(order, np.maximum(chosen, 0)[:, None], axis=1)[:, 0]
        ended = (step.terminated | step.truncated).numpy()
        last = self._arrays(self.observation, response)
        self.observation = next_observation
        following = self._arrays(next_observation, np.where(ended[:, None], np.float32(0), response))
        return step, following, last, np.where(chosen >= 0, action_position, -1)

    def _arrays(self, observation: Observation, response: NDArray[np.float32]) -> Obs:
        """An observation as newly allocated arrays."""
        arrays: Obs = {}
        context = observation.context.numpy().astype(np.float32)
        if context.shape[1] and not self._of_candidates:
            arrays["user"] = context
        if observation.candidates is not None:
            rows = self._features[observation.candidates.numpy()]
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
            raise input_error(
                f"the action has the shape {positions.shape} and the type {positions.dtype}; "
                f"expected {expected} whole numbers"
            )
        wrong = np.argwhere((positions < 0) | (positions >= self._choices))
        if len(wrong):
            user, position = wrong[0]
            raise input_error(
                f"the action of user {user} has {positions[user, position]} at position {position}; "
                f"expected an index from 0 to {self._choices - 1}"
            )
        return positions.astype(np.int64)

    def _mark_repeats(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where an earlier position of the action names the same index."""
        repeated = np.zeros(positions.shape, np.bool_)
        for distance in range(1, positions.shape[1]):
            repeated[:, distance:] |= positions[:, distance:] == positions[:, :-distance]
        if self._refuse and repeated.any():
            user, position = np.argwhere(repeated)[0]
            raise input_error(
                f"the action of user {user} names index {positions[user, position]} again at position {position}",
                advice='Show every item once, or make the environment with duplicates="drop".',
            )
        return repeated


class SingleEnv(gymnasium.Env[Any, Any]):
    """One user at a time."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(self, env: str, *, duplicates: str = "drop", **settings: Any) -> None:
        self._adapter = _Adapter(env, 1, duplicates, settings)
        self.observation_space = self._adapter.observation_space
        self.action_space = self._adapter.action_space
        self._over = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start the next user's session; with a seed, or in the middle of a session, everything starts from scratch."""
        _no_options(options)
        super().reset(seed=seed)
        if seed is None and self._over:
            observation = self._adapter.first()
        else:
            observation = self._adapter.reset(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        self._over = False
        return _row(observation, 0), self._info(-1)

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Show one slate.

        Raises:
            InputError: the session is over, or the action is invalid.
        """
        if self._over:
            raise input_error("the session is over", advice="Call reset() for the next user.")
        user = self._info(-1)["user"] if self._adapter.observation is not None else 0
        step, following, last, choice = self._adapter.step(np.asarray(action)[None])
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._over = terminated or truncated
        info = {"user": user, "choice": int(choice[0])}
        return _row(last if self._over else following, 0), float(step.reward.sum()), terminated, truncated, info

    def _info(self, choice: int) -> dict[str, Any]:
        assert self._adapter.observation is not None
        return {"user": int(self._adapter.observation.user[0]), "choice": choice}


class ManyEnvs(gymnasium.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """Many users in parallel; a user whose session ends is replaced in the same step."""

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, env: str, *, num_envs: int = 1, duplicates: str = "drop", **settings: Any) -> None:
        if num_envs < 1:
            raise input_error(f"num_envs is {num_envs}; expected at least 1")
        self.num_envs = num_envs
        self._adapter = _Adapter(env, num_envs, duplicates, settings)
        self.single_observation_space = self._adapter.observation_space
        self.single_action_space = self._adapter.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Start new users everywhere; a single seed determines all of them.

        Raises:
            InputError: a sequence of seeds, or options.
        """
        _no_options(options)
        if isinstance(seed, Sequence):
            raise input_error(f"seed is {seed!r}; all users come from one stream", advice="Give one whole number.")
        super().reset(seed=seed)
        observation = self._adapter.reset(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        return observation, self._infos(np.full(self.num_envs, -1))

    def step(self, actions: NDArray[np.int64]) -> tuple[Obs, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Show one slate to every user."""
        step, following, last, choice = self._adapter.step(actions)
        terminated, truncated = step.terminated.numpy(), step.truncated.numpy()
        infos = self._infos(choice)
        ended = terminated | truncated
        if ended.any():
            final = np.full(self.num_envs, None, dtype=object)
            for slot in np.flatnonzero(ended):
                final[slot] = _row(last, int(slot))
            infos |= {"final_obs": final, "_final_obs": ended}
            final_info = {
                "user": step.user.numpy(),
                "_user": ended.copy(),
                "choice": choice.copy(),
                "_choice": ended.copy(),
            }
            infos |= {"final_info": final_info, "_final_info": ended.copy()}
        return following, step.reward.double().sum(dim=1).numpy(), terminated, truncated, infos

    def _infos(self, choice: NDArray[np.int64]) -> dict[str, Any]:
        assert self._adapter.observation is not None
        everybody = np.ones(self.num_envs, np.bool_)
        user = self._adapter.observation.user.numpy().copy()
        return {"user": user, "_user": everybody, "choice": choice, "_choice": everybody.copy()}


def _row(observation: Obs, slot: int) -> Obs:
    return {name: values[slot].copy() for name, values in observation.items()}


def _no_options(options: dict[str, Any] | None) -> None:
    if options:
        raise input_error(f"reset has no options; got {', '.join(map(str, options))}")
