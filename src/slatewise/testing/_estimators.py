"""What every off-policy estimator must keep, on a bandit of which the answer is known."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM
from slatewise.protocols import Estimator
from slatewise.testing._contract import expect, expect_close, no_global_randomness
from slatewise.types import Estimate, Trajectories, used_at_once

BEHAVIOUR = (0.4, 0.3, 0.15, 0.1, 0.05)
EVALUATION = (0.1, 0.2, 0.3, 0.2, 0.2)
REWARD = (1.0, 2.0, 3.0, 4.0, 5.0)
VALUE = 3.2
"""Σ π r = .1 + .4 + .9 + .8 + 1"""
EVENTS = 4000


def check_estimator(estimator: Estimator, *, name: str | None = None) -> None:
    """Hold an estimator against its contract.

    On a bandit it finds the value of the behaviour policy and of another one within five standard errors; only steps
    with `learn` and a known propensity count; contributions sum to the value; it says so where the log cannot judge.

    Args:
        estimator: ready to use; logs have one item a slate and one step a session.
        name: for messages.

    Raises:
        ContractError: the message says what was expected.
    """
    where = name or type(estimator).__name__
    expect(isinstance(estimator, Estimator), f"{where} has no method `estimate`")
    log = bandit_log()
    evaluation = torch.tensor((0.0,) * FIRST_ITEM + EVALUATION).log()[log.slate]
    with no_global_randomness(where):
        of_logging_policy = estimator.estimate(log, log.logp.clone())
        _check_numbers(
            of_logging_policy, log, float(log.reward.mean()), f"{where}, evaluating the policy that wrote the log"
        )
        of_another_policy = estimator.estimate(log, evaluation)
        _check_numbers(of_another_policy, log, VALUE, f"{where}, evaluating another policy")
        _check_counted(estimator, log, evaluation, of_another_policy, where)
        _check_verdicts(estimator, log, evaluation, where)


def bandit_log(*, events: int = EVENTS, seed: int = 0) -> Trajectories:
    """One item a session, drawn by BEHAVIOUR, that pays its REWARD and a little noise.

    Args:
        events: sessions, of one user each.
        seed: of everything drawn.
    """
    generator = Generator().manual_seed(seed)
    action = torch.multinomial(torch.tensor(BEHAVIOUR), events, replacement=True, generator=generator)
    noise = torch.randn(events, generator=generator) * 0.5
    always = torch.ones(events, 1, dtype=torch.bool)
    number = torch.arange(events).unsqueeze(1)
    reward = (torch.tensor(REWARD)[action] + noise).view(events, 1, 1)
    return Trajectories(
        event_id=number,
        policy_id=torch.ones_like(number),
        user=number,
        time=number * 1_000_000,
        terminated=always,
        truncated=~always,
        slate=(action + FIRST_ITEM).view(events, 1, 1),
        logp=torch.tensor(BEHAVIOUR).log()[action].view(events, 1, 1),
        logp_known=always,
        reward=reward,
        cost=torch.zeros(events, 1, 1),
        **used_at_once(always.unsqueeze(2), time=number * 1_000_000, reward=reward),
        mask=always,
        learn=always,
        context=torch.zeros(events, 2, 0),
    )


def _check_numbers(estimate: Estimate, log: Trajectories, value: float, where: str) -> None:
    events = len(log.mask)
    low, high = estimate.interval
    expect(
        0 < estimate.stderr < math.inf and low < estimate.value < high,
        f"{where}: {estimate.value}, standard error {estimate.stderr}, interval {low} to {high}; expected the value "
        "inside",
    )
    expect(
        abs(estimate.value - value) <= 5 * estimate.stderr + 1e-6,
        f"{where}: {estimate.value:.4f} with a standard error of {estimate.stderr:.4f}; the value is {value:.4f}",
    )
    expect(
        estimate.steps == events == estimate.trajectories and 0 < estimate.ess <= events * (1 + 1e-6),
        f"{where}: {estimate.steps} steps, {estimate.trajectories} trajectories of which {estimate.ess} are effective; "
        f"the log has {events} of one step",
    )
    expect(0 < estimate.max_weight <= 1, f"{where}: max_weight is {estimate.max_weight}; expected a share of the sum")
    expect(estimate.unsupported == 0, f"{where}: unsupported is {estimate.unsupported}; every action was possible")
    expect(
        len(estimate.contributions) == events,
        f"{where}: {len(estimate.contributions)} contributions; expected one for each of {events} trajectories",
    )
    total = estimate.contributions.double().sum()
    expect_close(total, total.new_tensor(estimate.value), f"{where}: the contributions summed", tolerance=1e-3)


def _check_counted(
    estimator: Estimator, log: Trajectories, evaluation: Float[Tensor, "B T K"], whole: Estimate, where: str
) -> None:
    half = torch.arange(len(log.mask)).unsqueeze(1) % 2 == 0
    wrong = torch.where(half.unsqueeze(2), log.reward, 1000.0)
    for name, hidden in (
        ("may not be learned from", log.replace(learn=half, reward=wrong)),
        ("has no known propensity", log.replace(logp_known=half, reward=wrong)),
    ):
        estimate = estimator.estimate(hidden, evaluation)
        expect(
            estimate.steps == int(half.sum()),
            f"{where}: half of the log {name}, and {estimate.steps} steps count; expected {int(half.sum())}",
        )
        expect(
            abs(estimate.value - VALUE) <= 5 * estimate.stderr + 1e-6,
            f"{where}: half of the log {name}, and its rewards change the estimate to {estimate.value:.4f}; the value "
            f"is {VALUE}, the estimate from all {whole.value:.4f}",
        )


def _check_verdicts(estimator: Estimator, log: Trajectories, evaluation: Float[Tensor, "B T K"], where: str) -> None:
    nothing = estimator.estimate(log.replace(logp_known=torch.zeros_like(log.logp_known)), evaluation)
    expect(
        nothing.verdict == "cannot judge" and bool(nothing.reasons) and nothing.steps == 0,
        f'{where}: verdict "{nothing.verdict}" ({nothing.steps} steps) on a log without propensities; expected '
        '"cannot judge" and a reason',
    )
    # the policy nearly always shows an item that the log never shows; the three most frequent ones it never shows
    rare = torch.where(log.slate < FIRST_ITEM + 3, -torch.inf, torch.tensor(0.005).log())
    estimate = estimator.estimate(log, rare)
    share = float((log.slate < FIRST_ITEM + 3).float().mean())
    expect(
        abs(estimate.unsupported - share) < 1e-6 and estimate.verdict != "can judge" and bool(estimate.reasons),
        f'{where}: verdict "{estimate.verdict}", unsupported {estimate.unsupported:.3f}, where the policy could not '
        f"have taken {share:.3f} of the logged actions and has 1 % of its probability on the others; expected that "
        "share, a doubt and its reason",
    )
