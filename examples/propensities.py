"""The exact propensity of a slate: what the policy says it did, counted again over all slates it could have shown."""

from __future__ import annotations

from itertools import permutations

import torch

from slatewise import Exploration, SlateRequest
from slatewise.log import FIRST_ITEM
from slatewise.policies.fixed import FixedPolicy

# a policy over five items that needs no state, and a slate of three: the best item fixed, two drawn from the other four
policy = FixedPolicy((0.4, 0.25, 0.2, 0.1, 0.05))
request = SlateRequest(k=3, exploration=Exploration(top_m=5, keep=1, temperature=1.0))
state = torch.zeros(1, 1)

slate = policy.recommend(state, request, generator=torch.Generator().manual_seed(7))
print("shown     ", [f"item {item - FIRST_ITEM + 1}" for item in slate.items[0].tolist()])
print("propensity", [f"{p:.3f}" for p in slate.logp[0].exp().tolist()], "by position")
print(f"            {slate.logp.sum().exp():.4f} for the whole slate")

# asked again, the policy gives the same number
assert torch.equal(policy.log_prob(state, slate.items, request), slate.logp)

# one draw from the whole catalog is another number: π of the items, not the chance of the slate
print("π         ", [f"{p:.3f}" for p in policy.log_pi(state, slate.items)[0].exp().tolist()])

slates = torch.tensor(list(permutations(range(FIRST_ITEM, FIRST_ITEM + 5), 3)))
chance = policy.log_prob(state.expand(len(slates), 1), slates, request).sum(dim=1).exp()
print(f"{len(slates)} slates, {int((chance > 0).sum())} of them possible; their chances sum to {chance.sum():.6f}")
