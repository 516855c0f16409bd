"""How far the sampled softmax's gradient is from the exact one, over the number of negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM
from slatewise.ops import negatives
from slatewise.ops.choices import at_choice
from slatewise.ops.negatives import Negatives
from slatewise.ops.sampled_softmax import sampled_log_softmax
from slatewise.reproduce.youtube.drift import Size, learn, learner, record_log
from slatewise.seeds import stream_seed

COUNTS = (16, 64, 256, 1024, 2048, 4096)
DRAWS = 48
POSITIONS = 256


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Relative bias and noise of ∇_V mean log π̂ at a learned policy, by sampler and number of negatives.

    The bias is the norm of the mean over draws minus the exact gradient, with the part that the limited number of
    draws leaves taken out; the noise is the standard deviation of one draw. Both over the exact gradient's norm.
    """
    seed, size = int(settings["seed"]), Size(**settings["size"])
    record = record_log(settings["world"], seed, size.users)
    machine = learner(record, settings["method"], seed=seed)
    learn(machine, record, size=size, seed=seed)
    generator = Generator().manual_seed(stream_seed(seed, 30))
    sample = record.rows(torch.randperm(len(record.mask), generator=generator)[:128])
    with torch.no_grad():
        states = machine.policy.encoder(sample)[:, :-1]
        everything = torch.arange(FIRST_ITEM, machine.policy.num_rows)
        zero, unit = torch.zeros(1, states.shape[2]), torch.eye(states.shape[2])
        # the scores are affine in the state: bias and item vectors can be read off whatever the head looks like
        bias = machine.policy.scores(zero, everything.unsqueeze(0))[0]
        table = (machine.policy.scores(unit, everything.expand(len(unit), -1)) - bias).T.contiguous()
    chosen = (sample.choice >= 0).nonzero()
    chosen = chosen[torch.randperm(len(chosen), generator=generator)[:POSITIONS]]
    state = states[chosen[:, 0], chosen[:, 1]]
    item = at_choice(sample.slate, sample.choice)[chosen[:, 0], chosen[:, 1]]
    uses = torch.bincount(at_choice(record.slate, record.choice).flatten(), minlength=machine.policy.num_rows)
    results: dict[str, Any] = {}
    exact = _gradient(state, item, table, bias, negatives.whole_catalog(first=FIRST_ITEM, last=len(table) + 1))
    for name, draw in samplers(uses[FIRST_ITEM:], generator).items():
        results[name] = {}
        for count in COUNTS:
            draws = torch.stack([_gradient(state, item, table, bias, draw(count)) for _ in range(DRAWS)])
            mean = draws.mean(dim=0)
            spread = float((draws - mean).square().sum()) / (DRAWS - 1)
            off = float((mean - exact).square().sum()) - spread / DRAWS
            norm = float(exact.norm())
            results[name][str(count)] = {"bias": max(0.0, off) ** 0.5 / norm, "noise": spread**0.5 / norm}
    return results


def samplers(uses: Tensor, generator: Generator) -> dict[str, Callable[[int], Negatives]]:
    """Negatives by count; `uses` of the items from the first on."""
    last = len(uses) + FIRST_ITEM - 1
    ranked = torch.argsort(uses, descending=True, stable=True) + FIRST_ITEM
    cumulative = negatives.cumulative_share(uses.float(), power=0.75, uniform_share=0.1)
    return {
        "uniform": lambda count: negatives.uniform(count, first=FIRST_ITEM, last=last, generator=generator),
        "log-uniform": lambda count: negatives.log_uniform(count, ranked=ranked, generator=generator),
        "by use": lambda count: negatives.popular(count, cumulative=cumulative, first=FIRST_ITEM, generator=generator),
    }


def _gradient(state: Tensor, item: Tensor, table: Tensor, bias: Tensor, drawn: Negatives) -> Tensor:
    """∇_V of the mean log π̂, dense and flat."""
    table = table.detach().requires_grad_()
    log_pi = sampled_log_softmax(
        state,
        table[item - FIRST_ITEM],
        table[drawn.items - FIRST_ITEM],
        log_weight=drawn.log_weight,
        hit=drawn.column(item),
        positive_bias=bias[item - FIRST_ITEM],
        negative_bias=bias[drawn.items - FIRST_ITEM],
    )
    (gradient,) = torch.autograd.grad(log_pi.mean(), table)
    return gradient.flatten()
