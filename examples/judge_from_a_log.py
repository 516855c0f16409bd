"""What another policy would have earned, from a log alone; and a policy that the log cannot judge."""

from __future__ import annotations

import torch

from slatewise.ope.ips import Snips
from slatewise.policies.fixed import FixedPolicy
from slatewise.sim import toys

REWARDS = tuple(float(reward) for reward in range(1, 11))
SHOWN = tuple((11 - reward) / 55 for reward in range(1, 11))  # the log shows the worst items most
bandit = toys.Config(rewards=REWARDS, behaviour=SHOWN)

log = toys.behaviour_log(bandit, events=500, seed=1)  # 500 users of one step, with the propensity of each
print(f"the log itself earned {log.reward.mean():.2f} a step")

policies = {
    "uniform": (0.1,) * 10,
    "by reward": tuple(reward / 55 for reward in REWARDS),
    "rarely shown item": (*[1e-6 / 9] * 9, 1 - 1e-6),
}
for name, probabilities in policies.items():
    truth = sum(p * reward for p, reward in zip(probabilities, REWARDS, strict=True))
    policy = FixedPolicy(probabilities)
    rows, steps, slots = log.slate.shape
    state = torch.zeros(rows * steps, 1)
    # the log shows single draws, so π is the number to compare with, not a slate's factor
    logp = policy.log_pi(state, log.slate.flatten(0, 1)).view(rows, steps, slots)
    estimate = Snips().estimate(log, logp)
    low, high = estimate.interval
    print(f"\n{name}: truth {truth:.2f}, estimate {estimate.value:.2f} ({low:.2f} to {high:.2f})")
    print(f"  verdict: {estimate.verdict}; {estimate.ess:,.0f} effective users of {estimate.trajectories:,}")
    for reason in estimate.reasons:
        print(f"  {reason}")
