"""A CSV file → a trained policy → a slate for one user, without the command line."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from slatewise import Exploration, SlateRequest, evaluation
from slatewise.config.run import RunConfig
from slatewise.data.reading.importing import import_path
from slatewise.training.finished_run import open_run
from slatewise.training.loop import train


def write_log(path: Path) -> None:
    """60 made-up users; each likes one of three shelves and walks along it."""
    chance = random.Random(0)
    lines = ["user_id,item_id,timestamp,rating"]
    for user in range(60):
        shelf, time = user % 3, 1_600_000_000
        for place in range(14):
            time += chance.randrange(60, 3600)
            lines.append(f"u{user},shelf{shelf}-{(user + place) % 20:02d},{time},{chance.randrange(3, 6)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


with TemporaryDirectory() as name:
    folder = Path(name)
    write_log(folder / "log.csv")
    data = import_path(folder / "log.csv", folder / "data")
    print(f"{data.interactions.num_events} events, {len(data.users)} users, {data.catalog.num_items} items")

    tables = {
        "data": {"path": str(folder / "data"), "split": "leave_one_out"},
        "encoder": {"name": "gru", "width": 16, "item_width": 16},
        "method": {"name": "reinforce", "correction": "none", "reward_at_least": 4.0, "lr": 0.02},
        "train": {"epochs": 40, "patience": 40, "select": "recall@5"},
        "evaluate": {"k": [5]},
    }
    config = RunConfig.from_tables(tables)
    result = train(config, folder / "run")
    print(f"best epoch {result.best_epoch}: validation {result.select} {result.value:.2f}")

    run = open_run(folder / "run")
    policy, split = run.artifact.policy, run.split
    judged = evaluation.evaluate(policy, data, split.test, config.evaluate, trained_on=split.train)
    print(f"test recall@5 {judged.value('recall@5'):.2f} over {judged.users} users")

    user, events = np.array([0]), np.diff(data.interactions.user_offsets)[:1]
    used, state = evaluation.states_at(policy, data.interactions, user, events, max_history=100)
    generator = torch.Generator().manual_seed(1)
    request = SlateRequest(k=4, exclude=used, exploration=Exploration(top_m=10, keep=1))
    slate = policy.recommend(state, request, generator=generator)
    for item, logp in zip(slate.items[0].tolist(), slate.logp[0].exp().tolist(), strict=True):
        print(f"  {data.catalog.title(item)}  propensity {logp:.2f}")
