"""A log in which an item's kind decides who uses it, and items that no event shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int

from slatewise.config.run import RunConfig
from slatewise.evaluation.ranking import states_at
from slatewise.log import FIRST_ITEM, Catalog, Interactions, Vocabulary
from slatewise.protocols import Policy
from slatewise.testing import toy_dataset, written_log
from slatewise.training.loop import train
from slatewise.types import SlateRequest

KINDS = ("apple", "stone")
NUM_ITEMS, NUM_COLD = 60, 12
"""Real items, even numbers of the first kind; the last ones are shown to nobody."""


def catalog(num_items: int = NUM_ITEMS, *, features: bool = False) -> Catalog:
    """Items whose title, and feature if wanted, says their kind."""
    number = np.arange(num_items)
    words = ("small", "old", "heavy", "new", "round")
    titles = [f"{words[n % 5]} {KINDS[n % 2]} {n}" for n in range(num_items)]
    column = np.where(number % 2 == 0, 1.0, -1.0)[:, None] if features else np.zeros((num_items, 0))
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"i{n}" for n in range(num_items)], pa.string())),
        text=("",) * FIRST_ITEM + tuple(titles),
        group=np.zeros(num_items + FIRST_ITEM, np.int64),
        group_names=("",),
        features=np.concatenate([np.zeros((FIRST_ITEM, column.shape[1])), column]).astype(np.float32),
    )


def log(*, slate_size: int = 1, users: int = 80, steps: int = 10) -> Interactions:
    """Users with a taste for one kind: nine of ten items that they use are of it."""
    generator = np.random.default_rng(0)
    shown = np.arange(NUM_ITEMS - NUM_COLD) + FIRST_ITEM
    events: list[list[Mapping[str, Any]]] = []
    for user in range(users):
        events.append([])
        likes = shown % 2 == user % 2
        for step in range(steps):
            if slate_size == 1:
                right = generator.random() < 0.9
                event: dict[str, Any] = {"items": [int(generator.choice(shown[likes == right]))]}
            else:
                slate = generator.choice(shown, slate_size, replace=False)
                liked = np.flatnonzero(slate % 2 == user % 2)[:1].tolist()
                rewards = [1.0 if place in liked else 0.0 for place in range(slate_size)]
                event = {"items": slate.tolist(), "used": liked, "rewards": rewards}
            events[-1].append(event | {"time": 60_000_000 * step})
    return written_log(events)


def tables(data: Path, method: str, settings: Mapping[str, Any], *, content: list[str], epochs: int) -> dict[str, Any]:
    """A run that trains on all but each user's last event; the weights of the last epoch are kept."""
    return {
        "data": {"path": str(data), "split": "first_share", "valid_share": 0.0, "test_share": 0.1},
        "items": {"content": content},
        "encoder": {"name": "gru", "width": 16, "item_width": 16},
        "method": {"name": method, **settings},
        "train": {"epochs": epochs, "patience": epochs, "batch_size": 16, "select": "ndcg@10"},
    }


def trained(folder: Path, method: str, settings: Mapping[str, Any], *, content: list[str], epochs: int = 20) -> Path:
    """A finished run of a method on the log, of slates where it needs them."""
    size = 4 if method in ("slateq", "wolpertinger") else 1
    items = catalog(features="features" in content)
    toy_dataset(folder / "data", log(slate_size=size), catalog=items, kind="uses" if size == 1 else "impressions")
    config = RunConfig.from_tables(tables(folder / "data", method, settings, content=content, epochs=epochs))
    train(config, folder / "run")
    return folder / "run"


def right_share(policy: Policy, interactions: Interactions, items: Int[torch.Tensor, " C"] | None, *, k: int) -> float:
    """Share of the items recommended to users after their last event that are of the kind they like.

    Args:
        policy: any.
        interactions: of `log`.
        items: to choose from; None = all.
        k: items a user.
    """
    user = np.arange(interactions.num_users)
    _, state = states_at(policy, interactions, user, np.diff(interactions.user_offsets), max_history=100)
    candidates = None if items is None else items.expand(len(user), -1)
    with torch.no_grad():
        slates = policy.recommend(state, SlateRequest(k=k, candidates=candidates)).items
    return float((slates % 2 == torch.from_numpy(user % 2).unsqueeze(1)).float().mean())
