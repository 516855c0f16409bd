"""Plain-language explanations of an off-policy estimate."""

from __future__ import annotations

from slatewise.report.numbers import number
from slatewise.report.page import Judgement

HEADLINES = {
    "can judge": "This log can judge this policy.",
    "weak": "This log says little about this policy.",
    "cannot judge": "This log cannot judge this policy.",
}
MEANINGS = {
    "can judge": "Enough of what the policy would do was tried in the log, and no few trajectories carry the estimate.",
    "weak": "Take the estimate as a hint, and try the policy on few users first.",
    "cannot judge": "The estimate below is printed for the record only. To judge this policy takes a log with logged "
    "propensities and some exploration, a simulator, or a small live test.",
}

PROPENSITIES = {"logged": "logged", "fitted": "fitted: a clone of the logging policy, from the training part"}


def headline(judgement: Judgement) -> str:
    """The verdict as a sentence."""
    return HEADLINES[judgement.estimate.verdict]


def sentences(judgement: Judgement) -> list[str]:
    """The meaning of the verdict and the reasons for it, one sentence each."""
    estimate = judgement.estimate
    reasons = [f"{reason[:1].upper()}{reason[1:].rstrip('.')}." for reason in estimate.reasons]
    return [MEANINGS[estimate.verdict], *reasons]


def facts(judgement: Judgement) -> list[tuple[str, str]]:
    """The numbers behind the verdict, with their names."""
    estimate = judgement.estimate
    low, high = (number(bound) for bound in estimate.interval)
    facts = [("Estimated reward per shown item", f"{number(estimate.value)}, 95 % interval {low} – {high}")]
    if judgement.logged_value is not None:
        facts.append(("Reward per shown item of the log itself", number(judgement.logged_value)))
    left_out = ", ".join(f"{items:,} ({reason})" for reason, items in estimate.left_out.items())
    return [
        *facts,
        (
            "Shown items",
            f"{estimate.steps:,} of {estimate.trajectories:,} trajectories; left out: {left_out or 'none'}",
        ),
        ("Effective trajectories", f"{number(estimate.ess, 1)} of {estimate.trajectories:,}"),
        ("Weight of the heaviest trajectory", percent(estimate.max_weight)),
        ("Mean weight, 1 in expectation", number(estimate.mean_weight)),
        ("Shape k̂ of the tail of the weights", number(estimate.pareto_k, 2)),
        ("Logged actions out of the policy's reach", percent(estimate.unsupported)),
        ("Estimator", judgement.estimator),
        ("Propensities", PROPENSITIES[estimate.propensities]),
    ]


def percent(share: float) -> str:
    """A share as a percentage: "12 %", "0.4 %"."""
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"
