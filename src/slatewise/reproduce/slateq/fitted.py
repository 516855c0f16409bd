"""SlateQ by way of a fitted simulator: a random policy's log → a user model → SlateQ learns in it → the true world.

The log says what the wire would: slates, propensities, picks, rewards, contexts, ends of sessions. What could have been
shown as well it does not say, so the fitted world draws its candidates as often as the log shows them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator

from slatewise.data.batches import sample_rows
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.methods import random as uniform
from slatewise.ops.choices import at_choice
from slatewise.report import Check
from slatewise.reproduce._story import Row
from slatewise.reproduce.slateq import runs
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim.interest_evolution import Env
from slatewise.sim.log_fitted.env import Config, Fitted
from slatewise.sim.log_fitted.env import Env as FittedEnv
from slatewise.sim.log_fitted.fidelity import fidelity_report
from slatewise.sim.log_fitted.learner import Config as ModelConfig
from slatewise.sim.log_fitted.learner import Learner, levels
from slatewise.stats import student_t
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


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Record, fit, judge the fit, learn in it, measure in the true world."""
    size, seed = runs.Size(**cell["size"]), cell["seed"]
    env = Env(runs.world(cell["world"]), num_users=size.users, threads=1)
    random = Arm(policy=uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog), policy_id=1)
    record = replace(record_trajectories(env, [random], steps=size.steps, seed=stream_seed(seed, 7)), candidates=None)
    held = max(1, round(HELD_OUT * len(record.mask)))
    order = torch.randperm(len(record.mask), generator=Generator().manual_seed(stream_seed(seed, 10)))
    started = time.process_time()
    model = _fit(record.rows(order[held:]).trim(), env, updates=cell["fits"], seed=seed)
    fitting = time.process_time() - started
    fitted = Fitted(policy=model.policy, catalog=env.catalog)
    parts = [record.rows(part).trim() for part in torch.split(order[:held], 64)]
    report = fidelity_report(fitted, parts, seed=stream_seed(seed, 11))
    inside = FittedEnv(Config(num_candidates=env.config.num_candidates), num_users=size.users, fitted=fitted)
    built = runs.learner(cell["method"], env, seed=seed)
    started = time.process_time()
    # among simulated users nothing is lost by showing random slates, and Q-learning learns the best ones from any
    simulated = record_trajectories(inside, [random], steps=size.steps, seed=stream_seed(seed, 12))
    runs.learn_from_log(
        built, simulated, updates=size.steps * size.updates, batch=size.batch, seed=stream_seed(seed, 8)
    )
    return {
        "seconds": fitting + time.process_time() - started,
        "served": runs.served(built.policy, env.config, cell["serve"], size, seed),
        "fidelity": report.to_json(),
    }


def tell(found: Mapping[str, Mapping[str, Any]], gains: Mapping[str, list[float]]) -> tuple[list[Row], list[Check]]:
    """Rows and the check.

    Args:
        found: results of the cells, in the order of the seeds.
        gains: per serving and seed: the return in the true world, less that of random slates, over the same of the
            policy that learned by interaction with the true world.
    """
    rows, name = [], "trained in a simulator fitted to a random policy's log"
    for serving in SERVINGS:
        returns = [float(cell["served"][serving]["return"]) for cell in found.values()]
        rows.append(_row(f"{name}, QL-OT-{serving}", "return", returns))
        rows.append(_row(f"{name}, QL-OT-{serving}", "share of online gain", gains[serving]))
    for label, values in _fidelity([cell["fidelity"] for cell in found.values()]).items():
        rows.append(_row("fidelity of that simulator", label, values))
    mean, low, high = student_t(gains["OS"])
    check = Check(
        name=f"learned in a fitted simulator: at least {BAR} of the gain by interaction (OS)",
        holds=mean >= BAR,
        figure=f"{mean:.3f} [{low:.3f}, {high:.3f}]",
    )
    return rows, [check]


def _fidelity(reports: list[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for report in reports:
        likelihoods = [entry for entry in report["likelihoods"] if entry["what"] == "choice"]
        for entry in likelihoods:
            if entry["model"] != "model":
                found.setdefault(f"log-likelihood of a choice, gain over {entry['model']}", []).append(entry["gain"])
        found.setdefault("calibration error of picks", []).append(report["calibration"]["error"])
        for entry in report["sessions"]:
            if entry["name"] in ("length", "pick rate", "return"):
                ratio = entry["simulated"] / entry["real"] if entry["real"] else float("nan")
                found.setdefault(f"{entry['name']}, simulated over real", []).append(ratio)
    return found


def _fit(record: Trajectories, env: Env, *, updates: int, seed: int) -> Learner:
    """A user model of some sessions."""
    reward = at_choice(record.reward, record.choice)[record.mask & (record.choice >= 0)].numpy()
    seen = record.context[:, :-1][record.mask]
    config = ModelConfig(
        reads="match",
        hidden=(32,),
        slate_size=env.slate_size,
        slates=True,
        levels=levels(np.asarray(reward), 32),
        session_steps=int(record.mask.sum()) / max(1, int(record.terminated.sum())),
        ends=True,
        low=tuple(seen.amin(dim=0).tolist()),
        high=tuple(seen.amax(dim=0).tolist()),
    )
    model = Learner(config, runs.encoder(env), env.catalog, generator=Generator().manual_seed(stream_seed(seed, 13)))
    draws = Generator().manual_seed(stream_seed(seed, 14))
    fit(model, sample_rows(record, SESSIONS, updates=updates, generator=draws))
    return model


def _row(name: str, metric: str, values: list[float]) -> Row:
    mean, low, high = student_t(values)
    return Row(name=name, metric=metric, published=None, ours=mean, low=low, high=high)


__all__ = ["BAR", "NAME", "run", "settings", "tell"]
