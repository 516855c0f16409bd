"""How like the log the fitted users are: held-out likelihoods against simple baselines, calibration, and sessions.

The sessions are simulated with slates drawn at random from those of the log. Where the logging policy looked at its
users, real slates suited them better than these, so compare such figures with that in mind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import log_softmax, pad

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, LogPart
from slatewise.ops.calibration import Reliability, reliability
from slatewise.ops.choices import at_choice
from slatewise.ops.sessions import autocorrelation
from slatewise.seeds import stream_seed
from slatewise.sim.log_fitted.env import Config, Env, Fitted
from slatewise.sim.log_fitted.learner import Policy, held_out_histories
from slatewise.sim.log_fitted.verdict import Support, examine
from slatewise.types import Slates, Trajectories

LAGS = (1, 2, 5)
MOST_SESSIONS = 2000
WORST_ECE = 0.05
"""Beyond this the probabilities of picks are not to be believed."""
WORST_GAP = 0.1
"""Relative difference between real and simulated sessions beyond which the verdict says so."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Mean log-likelihood of what users did, by a model; `gain` is that of the user model over it."""

    what: str
    """choice or reward."""
    model: str
    value: float
    gain: float
    gain_stderr: float
    """Over users."""


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """A figure of real and of simulated sessions, with standard errors over sessions."""

    name: str
    real: float
    real_stderr: float
    simulated: float
    simulated_stderr: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of it."""

    users: int
    steps: int
    picks: int
    likelihoods: tuple[Likelihood, ...]
    calibration: Reliability
    marginals: tuple[Marginal, ...]
    support: Support
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """As JSON can hold it; what is not a number becomes null."""
        curve = self.calibration
        bins = zip(curve.predicted.tolist(), curve.observed.tolist(), curve.count.tolist(), strict=True)
        return {
            "users": self.users,
            "steps": self.steps,
            "picks": self.picks,
            "likelihoods": [_finite(asdict(entry)) for entry in self.likelihoods],
            "calibration": {
                "error": curve.error,
                "curve": [_finite({"predicted": p, "observed": o, "count": n}) for p, o, n in bins],
            },
            "sessions": [_finite(asdict(entry)) for entry in self.marginals],
            "verdict": {"support": self.support, "reasons": list(self.reasons)},
        }


@torch.no_grad()
def fidelity(
    fitted: Fitted,
    part: LogPart,
    *,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda users: None,
) -> Report:
    """Hold a user model against events that it did not learn from.

    Args:
        fitted: the model and its items; the log's item numbers are those of its catalog.
        part: the held-out events.
        seed: of everything that is drawn.
        on_batch: told the number of users done.

    Raises:
        InputError: nothing is held out, or slates of another size than the model knows.
    """
    if part.empty:
        raise input_error("no event is held out", advice="Name a log that the model did not learn from.")
    size = fitted.policy.user.shape.slate_size
    log = part.interactions
    if log.slate_size > size:
        raise input_error(
            f"the log shows slates of {log.slate_size}, the model learned from slates of {size}",
            advice="Name a log of the same kind.",
        )
    return fidelity_report(
        fitted, held_out_histories(part), seed=seed, gaps=examine(LogPart.whole(log)).reasons, on_batch=on_batch
    )


@torch.no_grad()
def fidelity_report(
    fitted: Fitted,
    batches: Sequence[Trajectories],
    *,
    seed: int,
    gaps: tuple[str, ...] = (),
    on_batch: Callable[[int], None] = lambda users: None,
) -> Report:
    """The report on some trajectories, each row a user's from his first event on.

    Args:
        fitted: the model and its items.
        batches: steps with `learn` are held out, the ones before are read.
        seed: of everything that is drawn.
        gaps: what the log cannot teach anybody; goes into the verdict.
        on_batch: told the number of users done.
    """
    policy = fitted.policy.eval()
    scores, done = _Scores(policy, seed), 0
    for batch in batches:
        scores.add(batch)
        done += len(batch.mask)
        on_batch(done)
    likelihoods = scores.likelihoods()
    curve = reliability(torch.cat(scores.chances), torch.cat(scores.came))
    marginals = tuple(_marginals(_sessions(batches), _simulate_sessions(fitted, batches, seed)))
    weak = _doubts(curve, marginals)
    hopeless = [
        entry
        for entry in likelihoods
        if entry.what == "choice" and entry.model != "model" and entry.gain < 2 * entry.gain_stderr
    ]
    support: Support = "cannot" if hopeless else "weak" if weak or gaps else "supports"
    reasons = [f"choices are predicted no better than by {entry.model}" for entry in hopeless]
    return Report(
        users=done,
        steps=int(sum(batch.learn.sum() for batch in batches)),
        picks=int(sum((batch.learn & (batch.choice >= 0)).sum() for batch in batches)),
        likelihoods=tuple(likelihoods),
        calibration=curve,
        marginals=marginals,
        support=support,
        reasons=(*reasons, *weak, *gaps),
    )


class _Scores:
    """Log-likelihoods of the model and the baselines, added up user by user."""

    def __init__(self, policy: Policy, seed: int) -> None:
        self.policy = policy
        self.chances: list[Float[Tensor, " P"]] = []
        self.came: list[Bool[Tensor, " P"]] = []
        self.sums: dict[tuple[str, str], list[Tensor]] = {}
        self.counts: dict[str, list[Tensor]] = {}
        self.generator = Generator().manual_seed(seed)
        rate = (policy.chosen + 1) / (policy.shown + policy.user.shape.slate_size + 1)
        self.rate = rate
        self.places = (policy.places + 1) / (policy.places + 1).sum()
        self.worth = torch.log((policy.worth + 1) / (policy.worth + 1).sum())

    def add(self, batch: Trajectories) -> None:
        """Score the steps of some users."""
        user_model, policy = self.policy.user, self.policy
        states = policy.encoder(batch)
        rows = (batch.learn & (batch.slate >= FIRST_ITEM).any(dim=2)).nonzero()
        row, t = rows[:, 0], rows[:, 1]
        state, slate, choice = states[row, t], batch.slate[row, t], batch.choice[row, t]
        item, users = at_choice(slate, choice), len(batch.mask)
        if user_model.shape.slates:
            shown, column = slate >= FIRST_ITEM, (choice + 1).unsqueeze(1)
            logits = {
                "model": pad(user_model.choice_logits(state, slate), (1, 0)),
                "uniform": pad(_mask_logits(torch.zeros(slate.shape), shown), (1, 0)),
                "position": torch.cat(
                    [self.places[-1:].log().expand(len(slate), 1), _mask_logits(self._by_place(slate), shown)], dim=1
                ),
                "popularity": torch.cat(
                    [self.places[-1:].log().expand(len(slate), 1), _mask_logits(self.rate[slate].log(), shown)], dim=1
                ),
            }
            log_p = {name: log_softmax(value, dim=1) for name, value in logits.items()}
            chance = log_p["model"].exp()
            possible = pad(shown, (1, 0), value=True)
            self.chances.append(chance[possible])
            self.came.append((torch.arange(chance.shape[1]) == column)[possible])
        else:
            keep = item >= FIRST_ITEM
            row, state, item = row[keep], state[keep], item[keep]
            others = torch.randint(
                FIRST_ITEM, policy.num_rows, (len(item), policy.config.negatives), generator=self.generator
            )
            both = torch.cat([item.unsqueeze(1), others], dim=1)
            same = pad(others == item.unsqueeze(1), (1, 0))
            logits = {
                "model": user_model.choice.log_weight(state, both),
                "uniform": torch.zeros(both.shape),
                "popularity": (policy.chosen[both] + 1).log(),
            }
            log_p = {name: log_softmax(value.masked_fill(same, -torch.inf), dim=1) for name, value in logits.items()}
            column = torch.zeros(len(item), 1, dtype=torch.int64)
            self.chances.append(log_p["model"].exp()[~same])
            self.came.append((torch.arange(both.shape[1]) == column).expand(both.shape)[~same])
        for name, value in log_p.items():
            self._note("choice", name, value.gather(1, column).squeeze(1), row, users)
        did = item >= FIRST_ITEM
        again = rows[:, 0] if len(rows) == len(row) else row
        reward = at_choice(batch.reward, batch.choice)[rows[:, 0], rows[:, 1]]
        level = user_model.level(reward[at_choice(slate, choice) >= FIRST_ITEM])
        modelled = log_softmax(user_model.reward_logits(state[did], item[did].unsqueeze(1)).squeeze(1), dim=1)
        at = again[did]
        self._note("reward", "model", modelled.gather(1, level.unsqueeze(1)).squeeze(1), at, users)
        self._note("reward", "frequency", self.worth[level], at, users)

    def likelihoods(self) -> list[Likelihood]:
        """The user model first, then what it is compared with."""
        likelihoods = []
        for (what, name), sums in self.sums.items():
            count, model, other = torch.cat(self.counts[what]), torch.cat(self.sums[what, "model"]), torch.cat(sums)
            size, total = len(count), float(count.sum())
            if not total:
                continue
            gain = float((model - other).sum()) / total
            left = model - other - gain * count
            stderr = float(left.square().sum().sqrt()) / total * math.sqrt(size / max(size - 1, 1))
            value = float(other.sum()) / total
            likelihoods.append(Likelihood(what=what, model=name, value=value, gain=gain, gain_stderr=stderr))
        return likelihoods

    def _note(self, what: str, name: str, values: Tensor, row: Int[Tensor, " P"], users: int) -> None:
        self.sums.setdefault((what, name), []).append(torch.bincount(row, weights=values.double(), minlength=users))
        if name == "model":
            self.counts.setdefault(what, []).append(torch.bincount(row, minlength=users))

    def _by_place(self, slate: Int[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        return self.places[: slate.shape[1]].log().expand(slate.shape)


@dataclass(frozen=True, kw_only=True)
class _Sessions:
    """Complete sessions, one a row."""

    pick: Float[Tensor, "J T"]
    reward: Float[Tensor, "J T"]
    mask: Bool[Tensor, "J T"]


def _sessions(batches: Sequence[Trajectories]) -> _Sessions:
    """Those of the log; whole histories where it names none."""
    picks: list[Tensor] = []
    rewards: list[Tensor] = []
    named = any(bool(batch.terminated.any()) for batch in batches)
    for batch in batches:
        reward = batch.reward.sum(dim=2)
        for row in range(len(batch.mask)):
            stop = int(batch.mask[row].sum())
            ends = batch.terminated[row, :stop].nonzero().squeeze(1).tolist() if named else [stop - 1]
            start = 0
            for end in ends:
                if bool(batch.learn[row, end]):
                    picks.append((batch.choice[row, start : end + 1] >= 0).float())
                    rewards.append(reward[row, start : end + 1])
                start = end + 1
    return _stack_sessions(picks, rewards)


def _simulate_sessions(fitted: Fitted, batches: Sequence[Trajectories], seed: int) -> _Sessions:
    """As many, with slates drawn from the log."""
    slates = torch.cat([batch.slate[batch.learn] for batch in batches])
    slates = slates[(slates >= FIRST_ITEM).any(dim=1)]
    number = min(MOST_SESSIONS, max(200, sum(int(batch.terminated.sum()) for batch in batches)))
    width = fitted.policy.user.shape.slate_size
    slates = pad(slates, (0, width - slates.shape[1]))
    ends = fitted.policy.user.shape.ends
    longest = 5000 if ends else max(1, round(fitted.policy.user.shape.session_steps))
    env = Env(Config(max_steps=longest), num_users=number, fitted=fitted)
    generator = Generator().manual_seed(stream_seed(seed, 1))
    env.reset(seed=stream_seed(seed, 2))
    open_ = torch.ones(number, dtype=torch.bool)
    picks, rewards, masks = [], [], []
    while bool(open_.any()):
        drawn = slates[torch.randint(len(slates), (number,), generator=generator)]
        step, _ = env.step(Slates(items=drawn, logp=torch.zeros(drawn.shape)))
        picks.append((step.choice >= 0).float())
        rewards.append(step.reward.sum(dim=1))
        masks.append(open_)
        open_ = open_ & ~(step.terminated | step.truncated)
    return _Sessions(pick=torch.stack(picks, 1), reward=torch.stack(rewards, 1), mask=torch.stack(masks, 1))


def _stack_sessions(picks: list[Tensor], rewards: list[Tensor]) -> _Sessions:
    longest = max((len(values) for values in picks), default=1)
    mask = torch.zeros(len(picks), longest, dtype=torch.bool)
    pick, reward = torch.zeros(len(picks), longest), torch.zeros(len(picks), longest)
    for row, (session, worth) in enumerate(zip(picks, rewards, strict=True)):
        pick[row, : len(session)], reward[row, : len(session)], mask[row, : len(session)] = session, worth, True
    return _Sessions(pick=pick, reward=reward, mask=mask)


def _marginals(real: _Sessions, simulated: _Sessions) -> list[Marginal]:
    marginals = []
    both = [_session_statistics(real), _session_statistics(simulated)]
    for name in both[0]:
        (real_value, real_error), (simulated_value, simulated_error) = both[0][name], both[1][name]
        marginals.append(
            Marginal(
                name=name,
                real=real_value,
                real_stderr=real_error,
                simulated=simulated_value,
                simulated_stderr=simulated_error,
            )
        )
    return marginals


def _session_statistics(sessions: _Sessions) -> dict[str, tuple[float, float]]:
    mask = sessions.mask
    length = mask.sum(dim=1).double()
    pick, reward = (sessions.pick * mask).double(), (sessions.reward * mask).double()
    statistics = {
        "length": _mean(length),
        "length, deviation": (float(length.std()) if len(length) > 1 else math.nan, math.nan),
        "pick rate": _mean(pick.sum(dim=1) / length.clamp(min=1), weight=length),
        "reward a slate": _mean(reward.sum(dim=1) / length.clamp(min=1), weight=length),
        "return": _mean(reward.sum(dim=1)),
    }
    for share in (0.1, 0.5, 0.9):
        statistics[f"length, {share:.0%} quantile"] = (
            float(length.quantile(share)) if len(length) else math.nan,
            math.nan,
        )
    for lag in LAGS:
        statistics[f"autocorrelation of picks, lag {lag}"] = (autocorrelation(sessions.pick, mask, lag), math.nan)
        statistics[f"autocorrelation of rewards, lag {lag}"] = (autocorrelation(sessions.reward, mask, lag), math.nan)
    return statistics


def _mean(values: Float[Tensor, " J"], weight: Float[Tensor, " J"] | None = None) -> tuple[float, float]:
    """Weighted mean and its standard error over sessions."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else math.nan), math.nan
    weight = torch.ones_like(values) if weight is None else weight
    mean = float((weight * values).sum() / weight.sum())
    spread = (weight * (values - mean)).square().sum().sqrt() / weight.sum()
    return mean, float(spread) * math.sqrt(len(values) / (len(values) - 1))


def _doubts(curve: Reliability, marginals: tuple[Marginal, ...]) -> list[str]:
    doubts = []
    if curve.error > WORST_ECE:
        doubts.append(f"probabilities of picks are off by {curve.error:.3f} on average (expected at most {WORST_ECE})")
    for entry in marginals:
        if entry.name in ("length", "pick rate", "reward a slate") and entry.real:
            off = entry.simulated / entry.real - 1
            if abs(off) > WORST_GAP:
                doubts.append(f"{entry.name}: simulated {entry.simulated:.4g}, real {entry.real:.4g} ({off:+.0%})")
    return doubts


def _mask_logits(logits: Float[Tensor, "P K"], shown: Bool[Tensor, "P K"]) -> Float[Tensor, "P K"]:
    return logits.masked_fill(~shown, -torch.inf)


def _finite(table: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in table.items()}
