"""The two bandits of sec. 6.1, learned from a log with β estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from slatewise.data.batches import sample_rows
from slatewise.encoders import cfn
from slatewise.methods import reinforce
from slatewise.report import Check, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._results import Results
from slatewise.reproduce._story import Row, chart, curve, fact, line
from slatewise.seeds import stream_seed
from slatewise.sim import toys
from slatewise.training.fit import fit

SEEDS = 20
ENOUGH = 19
TOLERANCE = 0.03
EVENTS = 50_000
STEPS = 1000
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A bandit, a correction, and where it must end."""

    name: str
    bandit: toys.Config
    method: reinforce.Config
    k: int
    """Draws of the set that is served."""

    def optimum(self) -> Tensor:
        """π in closed form."""
        rewards = torch.tensor(self.bandit.rewards, dtype=torch.float64)
        if self.method.correction == "none":
            return toys.uncorrected_optimum(rewards, torch.tensor(self.bandit.behaviour, dtype=torch.float64))
        return toys.top_k_optimum(rewards, self.method.slate_size if self.method.correction == "top_k" else 1)

    def value(self, pi: Tensor) -> float:
        """Expected reward of the served set."""
        return float(toys.set_reward(pi.double(), torch.tensor(self.bandit.rewards, dtype=torch.float64), self.k))


NO_CAP = 1e6
"""The bandits of the paper have no cap; their largest ratio is 55."""
PLAIN = reinforce.Config(correction="none", gamma=0.0, lr=0.015)
CORRECTED = replace(PLAIN, correction="standard", baseline=True, weight_cap=NO_CAP)
TOP_2 = replace(CORRECTED, correction="top_k", slate_size=2)
EXPERIMENTS = (
    Experiment(name="fig. 2, uncorrected", bandit=toys.BIASED, method=PLAIN, k=1),
    Experiment(name="fig. 2, corrected", bandit=toys.BIASED, method=CORRECTED, k=1),
    Experiment(name="fig. 3, K = 1", bandit=toys.TWO_GOOD, method=CORRECTED, k=2),
    Experiment(name="fig. 3, top-2", bandit=toys.TWO_GOOD, method=TOP_2, k=2),
)


def cells(*, seed_base: int) -> list[Cell]:
    """One cell a seed, with all four experiments."""
    return [Cell.of("toys", "toys", seed, steps=STEPS, batch=BATCH) for seed in range(seed_base, seed_base + SEEDS)]


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """π at the end of each experiment, and β̂."""
    result = {}
    for number, experiment in enumerate(EXPERIMENTS):
        seed = stream_seed(int(settings["seed"]), 100 + number)
        pi, beta = learn(experiment, seed=seed, steps=int(settings["steps"]), batch=int(settings["batch"]))
        result[experiment.name] = {"pi": pi.tolist(), "beta": beta.tolist()}
    return result


def learn(experiment: Experiment, *, seed: int, steps: int, batch: int) -> tuple[Tensor, Tensor]:
    """π and β̂ after `steps` batches from a log without propensities."""
    generator = Generator().manual_seed(seed)
    log = toys.behaviour_log(experiment.bandit, events=EVENTS, seed=seed, propensities=False)
    catalog = toys.catalog(len(experiment.bandit.rewards))
    settings = cfn.Config(width=4, item_width=4, reward_edges=(), context_width=0)
    encoder = cfn.Encoder(settings, catalog, generator=generator)
    learner = reinforce.Learner(experiment.method, encoder, catalog, generator=generator)
    fit(learner, sample_rows(log, batch, updates=steps, generator=generator))
    everything = torch.arange(2, catalog.num_rows).unsqueeze(0)
    state = torch.zeros(1, encoder.width)
    with torch.no_grad():
        log_pi = learner.policy.log_pi(state, everything)[0]
        beta = learner.policy.log_behaviour(state, torch.zeros(1, dtype=torch.int64))[0, 2:].exp()
    return log_pi.exp(), beta


def tell(results: Results, *, seed_base: int) -> tuple[list[Row], list[Check], list[LineChart]]:
    """Every seed, the share of seeds within the tolerance, and π beside the closed form."""
    rows, checks, charts = [], [], []
    for experiment in EXPERIMENTS:
        optimum = experiment.optimum()
        pis = [torch.tensor(result[experiment.name]["pi"], dtype=torch.float64) for result in results["toys"]]
        distances = [float((pi - optimum).abs().max()) for pi in pis]
        values = [experiment.value(pi) for pi in pis]
        rows.append(Row.of(experiment.name, "E[r], 20 seeds", values, experiment.value(optimum)))
        best = int(optimum.argmax())
        rows.extend(
            Row.of(f"{experiment.name}, seed {seed}", f"π of item {best + 1}", float(pi[best]), float(optimum[best]))
            for seed, pi in enumerate(pis, start=seed_base)
        )
        close = sum(distance <= TOLERANCE for distance in distances)
        label = f"{experiment.name}: every π within {TOLERANCE} of the closed form on {ENOUGH} of {SEEDS} seeds"
        checks.append(fact(label, close >= ENOUGH, f"{close} of {SEEDS}, largest distance {max(distances):.4f}"))
        charts.append(_chart(experiment, optimum, pis))
    return rows, checks, charts


def _chart(experiment: Experiment, optimum: Tensor, pis: Sequence[Tensor]) -> LineChart:
    items = range(1, len(optimum) + 1)
    curves = [
        line("closed form", items, optimum.tolist()),
        curve("learned", items, torch.stack(tuple(pis), dim=1).tolist()),
        line("β", items, experiment.bandit.behaviour),
    ]
    name = experiment.name.replace(". ", "-").replace(", ", "-").replace(" ", "")
    return chart(name, f"{experiment.name}: π after learning, β estimated", "item", "probability", curves)
