"""SlateQ by way of a fitted simulator: a random policy's log → a user model → SlateQ learns in it → the true world.

The log says what the wire would: slates, propensities, picks, rewards, contexts, ends of sessions. What could have been
shown as well it does not say, so the fitted world draws its candidates as often as the log shows them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator

from slatewise.data.batches import sample_rows
from slatewise.ops.choices import at_choice
from slatewise.report import Check
from slatewise.reproduce._story import Row, check
from slatewise.reproduce.slateq import runs
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim.interest_evolution import Env
from slatewise.sim.log_fitted.env import Config, Fitted
from slatewise.sim.log_fitted.env import Env as FittedEnv
from slatewise.sim.log_fitted.fidelity import fidelity_report
from slatewise.sim.log_fitted.learner import Config as ModelConfig
from slatewise.sim.log_fitted.learner import Learner, levels
from slatewise.training.fit import fit
from slatewise.types import Trajectories

NAME = "fitted"
SERVINGS = ["TS", "GS", "OS"]
BAR = 0.85
HELD_OUT = 0.1
"""Share of the log's users that the fidelity report reads."""
SESSIONS = 32
"""In a batch of the user model."""


def settings(method: Mapping[str, Any], world: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell needs beside seed and size."""
    return {"method": dict(method), "world": dict(world), "serve": SERVINGS, "fits": 1500}


def run(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Record, fit, evaluate the fit, learn in it, measure in the true world."""
    size, seed = runs.size_of(cell), cell["seed"]
    steps = size.interaction.steps
    env = Env(runs.world(cell["world"]), num_users=size.users, threads=1)
    random = runs.random_arm(env)
    log = replace(record_trajectories(env, [random], steps=steps, seed=stream_seed(seed, 7)), candidates=None)
    held_out = max(1, round(HELD_OUT * len(log.mask)))
    order = torch.randperm(len(log.mask), generator=Generator().manual_seed(stream_seed(seed, 10)))
    start = time.process_time()
    model = _fit(log.rows(order[held_out:]).trim(), env, updates=cell["fits"], seed=seed)
    fitting = time.process_time() - start
    fitted = Fitted(policy=model.policy, catalog=env.catalog)
    parts = [log.rows(part).trim() for part in torch.split(order[:held_out], 64)]
    report = fidelity_report(fitted, parts, seed=stream_seed(seed, 11))
    inside = FittedEnv(Config(num_candidates=env.config.num_candidates), num_users=size.users, fitted=fitted)
    built = runs.learner(cell["method"], env, seed=seed)
    start = time.process_time()
    # among simulated users nothing is lost by showing random slates, and Q-learning learns the best ones from any
    simulated = record_trajectories(inside, [random], steps=steps, seed=stream_seed(seed, 12))
    runs.learn_from_log(built, simulated, size, seed=stream_seed(seed, 8))
    return {
        "seconds": fitting + time.process_time() - start,
        "served": runs.servings(built, env, cell, size),
        "fidelity": report.to_json(),
    }


def tell(results: Sequence[Mapping[str, Any]], shares: Mapping[str, list[float]]) -> tuple[list[Row], list[Check]]:
    """Rows and the check.

    Args:
        results: of the cells, in the order of the seeds.
        shares: per serving and seed: the return in the true world, less that of random slates, over the same of the
            policy that learned by interaction with the true world.
    """
    rows, name = [], "trained in a simulator fitted to a random policy's log"
    for serving in SERVINGS:
        returns = [float(result["served"][serving]["return"]) for result in results]
        rows.append(Row.of(f"{name}, QL-OT-{serving}", "return", returns))
        rows.append(Row.of(f"{name}, QL-OT-{serving}", "share of online gain", shares[serving]))
    for label, values in _fidelity([result["fidelity"] for result in results]).items():
        rows.append(Row.of("fidelity of that simulator", label, values))
    label = f"learned in a fitted simulator: at least {BAR} of the gain by interaction (OS)"
    return rows, [check(label, shares["OS"], lambda mean: mean.mean >= BAR)]


def _fidelity(reports: list[Mapping[str, Any]]) -> dict[str, list[float]]:
    metrics: defaultdict[str, list[float]] = defaultdict(list)
    for report in reports:
        for entry in report["likelihoods"]:
            if entry["what"] == "choice" and entry["model"] != "model":
                metrics[f"log-likelihood of a choice, gain over {entry['model']}"].append(entry["gain"])
        metrics["calibration error of picks"].append(report["calibration"]["error"])
        for entry in report["sessions"]:
            if entry["name"] in ("length", "pick rate", "return"):
                ratio = entry["simulated"] / entry["real"] if entry["real"] else float("nan")
                metrics[f"{entry['name']}, simulated over real"].append(ratio)
    return metrics


def _fit(record: Trajectories, env: Env, *, updates: int, seed: int) -> Learner:
    """A user model of some sessions."""
    reward = at_choice(record.reward, record.choice)[record.mask & (record.choice >= 0)].numpy()
    context = record.context[:, :-1][record.mask]
    config = ModelConfig(
        reads="match",
        hidden=(32,),
        slate_size=env.slate_size,
        slates=True,
        levels=levels(np.asarray(reward), 32),
        session_steps=int(record.mask.sum()) / max(1, int(record.terminated.sum())),
        ends=True,
        low=tuple(context.amin(dim=0).tolist()),
        high=tuple(context.amax(dim=0).tolist()),
    )
    model = Learner(config, runs.encoder(env), env.catalog, generator=Generator().manual_seed(stream_seed(seed, 13)))
    draws = Generator().manual_seed(stream_seed(seed, 14))
    fit(model, sample_rows(record, SESSIONS, updates=updates, generator=draws))
    return model
