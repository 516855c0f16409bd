"""How many interactions a second training takes in, beside the matrix products and the recurrent cell it contains.

REINFORCE on GRU states, both heads, full softmax, on MovieLens-100K where it was fetched (data/ml-100k), else on a
simulated log of the same shape. One epoch a round: batches are cut from the log, both heads and the encoder learn. The
floor does, on the same numbers of rows, the products without which no exact softmax can be learned (scores, gradient of
the states, gradient of the table, in chunks that fit the cache; scores that the backward pass computes again do not
count) and torch's own GRU forward and backward; it reads no log, normalises nothing and changes no weight.

    python bench/train.py [--json] [--quick] [--rounds 5] [--threads 2] [--seed 0]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from _run import Taken, cpu_ratio, finish, in_turns, medians, parser, ratio

# isort: split
import numpy as np
import torch

from slatewise.config.run import RunConfig
from slatewise.data import batches, prepared
from slatewise.data.prepared import Dataset
from slatewise.data.simulated import prepare_simulated
from slatewise.encoders import gru
from slatewise.methods import reinforce
from slatewise.ops.products import product
from slatewise.ops.returns import threshold
from slatewise.ops.shown_rows import shown_rows
from slatewise.training.run import Run, lay_out
from slatewise.types import Trajectories

BAR = 25_000
"""Interactions a second on two cores."""
FORMS = {
    "REINFORCE, no correction": ["method.correction='none'"],
    "REINFORCE, top-K = 10": ["method.correction='top_k'", "method.slate_size=10"],
}
CHUNK = 1 << 19


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one batch asks of the machine."""

    windows: int
    steps: int
    shown: int
    """Rows of β's head."""
    earned: int
    """Rows of π's head: what was rewarded."""


def main() -> None:
    options = parser(__doc__, "train")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--data", type=Path, default=Path("data/ml-100k"), help="prepared data set")
    given = options.parse_args()
    begun = time.monotonic()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        dataset = log(given.data, Path(name))
        runs = {form: laid_out(dataset, Path(name), changes, given.seed) for form, changes in FORMS.items()}
        first = next(iter(runs.values()))
        most = 8 if given.quick else None
        loads = [load(batch, first) for batch in epoch(first, given.seed)][:most]
        works = {form: learn(run, len(loads), given.seed) for form, run in runs.items()}
        works["bare products"] = products(loads, first, dataset.catalog.num_items, given.seed)
        works["bare GRU"] = recurrence(loads, first, given.seed)
        found = in_turns(works, 2 if given.quick else given.rounds)
    interactions = sum(one.shown for one in loads)
    both = [one + other for one, other in zip(found["bare products"], found["bare GRU"], strict=True)]
    rows = [row(name, taken, both, interactions) for name, taken in {**found, "both bare": both}.items()]
    head = (
        f"{dataset.name}{' (simulated)' if dataset.simulated else ''}: {interactions:,} interactions an epoch, "
        f"{dataset.catalog.num_items:,} items, batches of {first.config.train.batch_size} users"
    )
    settings = {
        "data": dataset.name,
        "simulated": dataset.simulated,
        "interactions": interactions,
        "items": dataset.catalog.num_items,
        "threads": given.threads,
        "rounds": given.rounds,
        "bar": BAR,
    }
    line = (
        "{name:<26} {interactions_per_second:>9,.0f} interactions/s (× {ratio:.2f})  "
        "{per_cpu_second:>9,.0f} a CPU second (× {cpu_ratio:.2f})"
    )
    finish(given, begun=begun, settings=settings, rows=rows, lines=[head, *(line.format(**one) for one in rows)])


def log(folder: Path, scratch: Path) -> Dataset:
    """MovieLens-100K if it is there, else a simulated log of its shape."""
    if prepared.is_prepared(folder):
        return prepared.load(folder)
    return prepare_simulated(scratch / "simulated", users=943, items=1682, events_per_user=106)


def laid_out(dataset: Dataset, scratch: Path, changes: list[str], seed: int) -> Run:
    """The shipped configuration on a data set; nothing is written."""
    assignments = [f"data.path={dataset.path}", *changes, f"train.seed={seed}"]
    return lay_out(RunConfig.from_toml(Path("configs/ml-100k/reinforce.toml"), assignments), scratch / "run")


def encoder_settings(run: Run) -> gru.Config:
    """Sizes of the encoder."""
    settings = run.config.encoder.settings
    assert isinstance(settings, gru.Config)
    return settings


def epoch(run: Run, seed: int) -> Iterator[Trajectories]:
    """The batches of one epoch, the same in every round."""
    wins = run.split.part("train").windows(max_length=run.config.train.max_length, burn_in=run.config.train.burn_in)
    return batches.shuffled_batches(
        run.dataset.interactions, wins, batch_size=run.config.train.batch_size, generator=np.random.default_rng(seed)
    )


def learn(run: Run, most: int, seed: int) -> Callable[[], None]:
    """One epoch, or its first batches."""

    def work() -> None:
        for batch in islice(epoch(run, seed), most):
            run.learner.update(batch)

    return work


def load(batch: Trajectories, run: Run) -> Load:
    """Rows that a batch gives to the parts."""
    rows = shown_rows(batch.slate, batch.learn)
    method = run.config.method.settings
    assert isinstance(method, reinforce.Config)
    reward = threshold(batch.reward, method.reward_at_least)
    earned = reward[rows[:, 0], rows[:, 1], rows[:, 2]] != 0
    return Load(windows=len(batch.mask), steps=batch.mask.shape[1], shown=len(rows), earned=int(earned.sum()))


def products(loads: list[Load], run: Run, items: int, seed: int) -> Callable[[], None]:
    """The bare products of an epoch: both heads, forward and backward."""
    generator, width = torch.Generator().manual_seed(seed), encoder_settings(run).width
    weight, d_weight = torch.randn(items, width, generator=generator), torch.zeros(width, items)
    state = torch.randn(max(one.shown for one in loads), width, generator=generator)
    size = CHUNK // items

    def head(rows: int, *, to_states: bool) -> None:
        for at in range(0, rows, size):
            some = state[at : min(at + size, rows)]
            scores = product(some, weight)
            if to_states:
                product(scores, weight.t())
            d_weight.add_(product(some.t().contiguous(), scores.t()))

    @torch.no_grad()
    def work() -> None:
        for one in loads:
            head(one.shown, to_states=False)  # β's head does not move the state
            head(one.earned, to_states=True)

    return work


def recurrence(loads: list[Load], run: Run, seed: int) -> Callable[[], None]:
    """The GRU of torch over the histories of an epoch, forward and backward."""
    width, item_width = encoder_settings(run).width, encoder_settings(run).item_width
    wide = max(one.windows for one in loads), max(one.steps for one in loads)
    generator = torch.Generator().manual_seed(seed)
    read = torch.randn(*wide, item_width, generator=generator, requires_grad=True)
    # built the ordinary way, it draws its first values from the global generator
    cell = torch.nn.GRU(item_width, width, batch_first=True, device="meta").to_empty(device="cpu")
    for weight in cell.parameters():
        torch.nn.init.uniform_(weight, -(width**-0.5), width**-0.5, generator=generator)

    def work() -> None:
        for one in loads:
            out, _ = cell(read[: one.windows, : one.steps])
            torch.autograd.backward(out, out.detach())

    return work


def row(name: str, taken: list[Taken], bare: list[Taken], interactions: int) -> dict[str, Any]:
    """Figures of one piece of work."""
    middle = medians(taken)
    return {
        "name": name,
        "interactions_per_second": interactions / middle.seconds,
        "per_cpu_second": interactions / middle.cpu_seconds,
        "seconds": middle.seconds,
        "cpu_seconds": middle.cpu_seconds,
        "ratio": ratio(taken, bare),
        "cpu_ratio": cpu_ratio(taken, bare),
        "rounds": len(taken),
    }


if __name__ == "__main__":
    main()
