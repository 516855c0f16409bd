"""Episodes played to their end, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import Catalog
from slatewise.ops.choices import at_choice
from slatewise.protocols import Env, KnowsQuality, Policy
from slatewise.rollout.play import Arm, play
from slatewise.rollout.recording import Recorder
from slatewise.stats import Measurement, ratio
from slatewise.types import Exploration, Observation, Slates, Step


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a policy earned: every place the same number of episodes, each to its end."""

    episodes: int
    steps: int
    metrics: tuple[Measurement, ...]
    """return, length, click_rate and, where the environment knows it, quality."""
    returns: Float[Tensor, " U"] = field(repr=False)
    """Sum of rewards of each place over its episodes."""

    def metric(self, name: str) -> Measurement:
        """The metric of that name.

        Raises:
            KeyError: there is none.
        """
        return {metric.name: metric for metric in self.metrics}[name]


def play_episodes(
    env: Env,
    policy: Policy,
    *,
    episodes: int,
    seed: int,
    exploration: Exploration | None = None,
    exclude_last: int = 0,
    serve_finished: bool = True,
    max_steps: int = 100_000,
    recorder: Recorder | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Played:
    """Serve every place of an environment for `episodes` episodes.

    A fixed number of episodes a place, not of steps: else short ones would be counted too often.

    Args:
        env: is reset with `seed`.
        policy: serves.
        episodes: of each place, ≥ 1.
        seed: of the env and the draws.
        exploration: how the policy explores; None = it shows its best.
        exclude_last: how many of the items that a user used last are not shown to them again.
        serve_finished: choose slates also for places whose episodes are over, as a service would; False = they are
            shown their first candidates, and nothing is drawn for them.
        max_steps: of a place.
        recorder: is given every step that counts.
        on_progress: told the number of finished episodes.

    Raises:
        InputError: fewer than one episode, or places whose episodes do not end within `max_steps`.
    """
    if episodes < 1:
        raise input_error(f"{episodes} episodes: expected at least 1")
    watched = _Watched(env)
    users = env.num_users
    tally = _Tally(users)
    number = torch.zeros(users, dtype=torch.int64)
    arm = Arm(policy=policy, policy_id=1, exploration=exploration)
    sessions = None if serve_finished else episodes
    steps_of_all = play(watched, [arm], seed=seed, exclude_last=exclude_last, sessions=sessions)
    for steps, (observation, step, _) in enumerate(steps_of_all, start=1):
        counts = number < episodes
        tally.add(step, counts, watched.picked_quality)
        if recorder is not None:
            recorder.add(observation, step, counts, episode=number)
        number += step.terminated | step.truncated
        on_progress(int(number.clamp(max=episodes).sum()))
        if bool((number >= episodes).all()):
            break
        if steps >= max_steps:
            raise input_error(
                f"{int((number < episodes).sum())} of {users} places did not finish {episodes} episodes in {steps} "
                "steps",
                advice="Raise --max-steps, or use an environment whose sessions end.",
            )
    return tally.summary(episodes)


class _Tally:
    """What the places of an environment earned and picked so far."""

    def __init__(self, users: int) -> None:
        self._reward, self._steps, self._picks, self._quality = (
            torch.zeros(users, dtype=torch.float64) for _ in range(4)
        )
        self._knows_quality = False

    def add(self, step: Step, counts: Bool[Tensor, " B"], picked_quality: Float[Tensor, " B"] | None) -> None:
        """Count a step of the places at which it counts."""
        clicked = counts & step.used.any(dim=1)
        self._reward += step.reward.sum(dim=1) * counts
        self._steps += counts
        self._picks += clicked
        if picked_quality is not None:
            self._quality += picked_quality * clicked
            self._knows_quality = True

    def summary(self, episodes: int) -> Played:
        """The metrics of `episodes` episodes of each place."""
        each = torch.full_like(self._reward, float(episodes))
        metrics = [
            _ratio("return", self._reward, each),
            _ratio("length", self._steps, each),
            _ratio("click_rate", self._picks, self._steps),
        ]
        if self._knows_quality:
            metrics.append(_ratio("quality", self._quality, self._picks))
        return Played(
            episodes=episodes * len(each),
            steps=int(self._steps.sum()),
            metrics=tuple(metrics),
            returns=self._reward,
        )


class _Watched:
    """An environment that remembers the true quality of what was picked last, where it knows one per candidate."""

    def __init__(self, env: Env) -> None:
        self.num_users = env.num_users
        self.slate_size = env.slate_size
        self.catalog: Catalog = env.catalog
        self.picked_quality: Float[Tensor, " B"] | None = None
        self._env = env
        self._observation: Observation | None = None

    def reset(self, *, seed: int) -> Observation:
        """Start over."""
        self._observation = self._env.reset(seed=seed)
        return self._observation

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates, and look up what was picked."""
        candidates = None if self._observation is None else self._observation.candidates
        quality = self._env.quality if isinstance(self._env, KnowsQuality) else None
        step, observation = self._env.step(slates)
        if quality is not None and candidates is not None:
            item = at_choice(step.slate, step.choice)
            at = (candidates == item.unsqueeze(1)).int().argmax(dim=1, keepdim=True)
            self.picked_quality = quality.gather(1, at).squeeze(1)
        self._observation = observation
        return step, observation


def _ratio(name: str, numerator: Float[Tensor, " U"], denominator: Float[Tensor, " U"]) -> Measurement:
    """Ratio of sums over independent slots, with its standard error."""
    value, stderr = ratio(numerator, denominator)
    return Measurement(name=name, value=value, stderr=stderr)
