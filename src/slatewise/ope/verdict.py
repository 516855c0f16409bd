"""Whether a log can judge a policy: stated thresholds, and reasons in words."""

from __future__ import annotations

from slatewise.types import Verdict

FEW_EFFECTIVE_STEPS = 100.0
"""With fewer effective steps, an interval of a mean is not reliable."""
SMALL_EFFECTIVE_SHARE = 0.01
"""With a smaller share of effective steps, nearly all of the log is unused."""
LARGE_WEIGHT = 0.05
"""A step with a larger share of the estimate dominates it."""
MUCH_UNSUPPORTED = 0.05
"""A larger share of logged actions with zero probability under the evaluation policy makes the estimate doubtful."""


def judge(
    *,
    steps: int,
    ess: float,
    max_weight: float,
    unsupported: float,
    mean_weight: float,
    mean_weight_stderr: float,
    fitted: bool = False,
    only_uses: bool = False,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons.

    Args:
        steps: steps with a known propensity.
        ess: effective sample size in steps.
        max_weight: share of the estimate that the heaviest step carries.
        unsupported: share of logged actions that the policy could not have taken.
        mean_weight: mean of π/β, 1 in expectation where π is covered by the log.
        mean_weight_stderr: its standard error.
        fitted: propensities were estimated, not logged.
        only_uses: the log holds what users used, not what they were shown.
    """
    fatal, doubts = [], []
    if steps == 0:
        return "cannot judge", ("no step of the log has a propensity",)
    if only_uses:
        fatal.append(
            "the log holds only what users used, not what they were shown: a choice of the user is taken for an "
            "action of a policy"
        )
    if ess < FEW_EFFECTIVE_STEPS:
        fatal.append(f"only {ess:,.0f} effective steps of {steps:,} are left (at least {FEW_EFFECTIVE_STEPS:.0f})")
    elif ess < SMALL_EFFECTIVE_SHARE * steps:
        doubts.append(f"{ess / steps:.2%} of the steps are effective (at least {SMALL_EFFECTIVE_SHARE:.0%})")
    if max_weight > LARGE_WEIGHT:
        fatal.append(f"one step carries {max_weight:.1%} of the estimate (at most {LARGE_WEIGHT:.0%})")
    if unsupported > MUCH_UNSUPPORTED:
        doubts.append(
            f"the policy could not have taken {unsupported:.1%} of the logged actions (at most {MUCH_UNSUPPORTED:.0%})"
        )
    if abs(mean_weight - 1) > max(0.1, 4 * mean_weight_stderr):
        fatal.append(
            f"the mean weight is {mean_weight:.2f} where 1 is expected: the log does not cover what the policy does, "
            "or the propensities are wrong"
        )
    if fitted:
        doubts.append("the propensities were fitted to the log, not logged")
    if fatal:
        return "cannot judge", tuple(fatal + doubts)
    return ("weak", tuple(doubts)) if doubts else ("can judge", ())
