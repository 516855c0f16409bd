"""Whether a log can judge a policy: stated thresholds, and reasons in words.

The thresholds come from simulation (`bench/ope_coverage.py`, docs/guides/verdict.md): where the verdict is "can judge",
the 95 % interval covers the truth in 93 to 97 % of the logs, in every setting.
"""

from __future__ import annotations

from dataclasses import dataclass

from slatewise.types import PropensitySource, Verdict

FEW_EFFECTIVE_TRAJECTORIES = 15.0
"""With fewer effective trajectories, what the log shows of the tail of the weights is chance."""
LARGE_WEIGHT = 0.2
"""A trajectory with a larger share of the estimate dominates it."""
MEAN_WEIGHT_OFF = 0.1
"""A mean weight further from 1 than this and four standard errors is proof that propensities or coverage are wrong."""
MEAN_WEIGHT_FAR_OFF = 0.2
"""A mean weight further from 1 than this is fatal however noisy the log is."""
MEAN_WEIGHT_CLOSE = 0.02
"""A mean weight this close to 1 is good, however little noise the log has."""
NO_MEAN = 1.0
"""The shape k̂ of a tail from which on the weights have no mean."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the verdict on an off-policy estimate rests on."""

    trajectories: int
    steps: int
    """Shown items that entered the estimate."""
    ess: float
    """Effective trajectories."""
    max_weight: float
    """Share of the estimate that the heaviest trajectory carries."""
    pareto_k: float
    mean_weight: float
    mean_weight_stderr: float
    constant_reward: bool = False
    """Whether every reward that counts is the same and no other is known to be possible."""
    propensities: PropensitySource = "logged"
    only_uses: bool = False
    """Whether the log holds what users used, not what they were shown."""
    slate_size: int = 0
    """Items of the largest slate that has propensities of its own, which are no single draws; 0 = there is none."""


def decide_verdict(evidence: Evidence) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons, the fatal ones first."""
    slates = f"the log's propensities are of slates of up to {evidence.slate_size}, not of single draws"
    if evidence.steps == 0:
        return "cannot judge", (
            "no step of the log has a propensity"
            if not evidence.slate_size
            else f"{slates}: no step has a propensity of a single item",
        )
    fatal, doubts = _fatal(evidence), []
    distance = abs(evidence.mean_weight - 1)
    if MEAN_WEIGHT_OFF >= distance > max(MEAN_WEIGHT_CLOSE, 4 * evidence.mean_weight_stderr):
        doubts.append(
            f"the mean weight is {evidence.mean_weight:.3f} where 1 is expected, more than four standard errors away"
        )
    if evidence.pareto_k >= NO_MEAN:
        doubts.append(
            f"the tail of the weights is so heavy that they may have no mean (k̂ = {evidence.pareto_k:.2f}, below "
            f"{NO_MEAN:.0f} it has one)"
        )
    if evidence.propensities == "fitted":
        fitted = "the propensities were fitted to the log, not logged"
        doubts.append(f"{slates}; those used were fitted to the log" if evidence.slate_size else fitted)
    if fatal:
        return "cannot judge", tuple(fatal + doubts)
    return ("weak", tuple(doubts)) if doubts else ("can judge", ())


def _fatal(evidence: Evidence) -> list[str]:
    reasons = []
    if evidence.only_uses:
        reasons.append(
            "the log holds only what users used, not what they were shown: a choice of the user is taken for an "
            "action of a policy"
        )
    if evidence.constant_reward:
        reasons.append("every reward is the same: nothing is known of how others vary")
    if evidence.ess < FEW_EFFECTIVE_TRAJECTORIES:
        reasons.append(
            f"only {evidence.ess:,.1f} effective trajectories of {evidence.trajectories:,} are left (at least "
            f"{FEW_EFFECTIVE_TRAJECTORIES:.0f})"
        )
    if evidence.max_weight > LARGE_WEIGHT:
        reasons.append(f"one trajectory carries {evidence.max_weight:.1%} of the estimate (at most {LARGE_WEIGHT:.0%})")
    distance = abs(evidence.mean_weight - 1)
    if distance > min(max(MEAN_WEIGHT_OFF, 4 * evidence.mean_weight_stderr), MEAN_WEIGHT_FAR_OFF):
        reasons.append(
            f"the mean weight is {evidence.mean_weight:.2f} where 1 is expected: the log does not cover what the "
            "policy does, or the propensities are wrong"
        )
    return reasons
