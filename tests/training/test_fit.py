from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor

from slatewise.data.batches import sample_rows, shuffle_rows
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.methods import popularity
from slatewise.protocols import Policy
from slatewise.testing import toy_catalog, toy_log
from slatewise.training.fit import fit
from slatewise.types import Trajectories

CATALOG = toy_catalog()
LOG = toy_log(CATALOG)


class Counting:
    """Reports how many rows a batch has, and every second time a surprise."""

    single_pass = False

    def __init__(self) -> None:
        self.rows: list[int] = []

    @property
    def policy(self) -> Policy:
        return popularity.Policy(popularity.Config(), StatelessEncoder(), CATALOG)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        self.rows.append(len(trajectories.mask))
        metrics = {"rows": float(self.rows[-1])}
        return metrics if len(self.rows) % 2 else metrics | {"surprise": 10.0 * len(self.rows)}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        return None


def test_metrics_are_means_over_the_updates_that_report_them() -> None:
    learner = Counting()
    numbers: list[tuple[int, dict[str, float]]] = []
    batches = [LOG.rows(slice(0, count)) for count in (1, 2, 3, 6)]
    means = fit(learner, batches, on_update=lambda update, metrics: numbers.append((update, metrics)))
    assert learner.rows == [1, 2, 3, 6]
    assert means == {"rows": 3.0, "surprise": 30.0}
    assert numbers == [
        (1, {"rows": 1.0}),
        (2, {"rows": 2.0, "surprise": 20.0}),
        (3, {"rows": 3.0}),
        (4, {"rows": 6.0, "surprise": 40.0}),
    ]


def test_a_pass_without_batches_has_no_metrics() -> None:
    assert fit(Counting(), []) == {}


def test_a_batch_is_asked_for_after_the_update_with_the_one_before() -> None:
    learner = Counting()
    updates_before: list[int] = []

    def batches() -> Iterator[Trajectories]:
        for _ in range(3):
            updates_before.append(len(learner.rows))
            yield LOG

    fit(learner, batches())
    assert updates_before == [0, 1, 2]


def test_a_real_learner_is_changed_in_place() -> None:
    learner = popularity.Learner(popularity.Config(), StatelessEncoder(), CATALOG, generator=Generator().manual_seed(0))
    assert not bool(learner.policy.count.any())
    fit(learner, [LOG.rows(slice(0, 4)), LOG.rows(slice(4, 8))])
    assert float(learner.policy.count.sum()) == float((LOG.choice >= 0).sum())


def test_sampled_rows_are_drawn_with_replacement_as_long_as_needed() -> None:
    generator = Generator().manual_seed(3)
    batches = list(sample_rows(LOG, 30, updates=4, generator=generator))
    users = torch.stack([batch.user[:, 0] for batch in batches])
    draws = torch.randint(8, (4, 30), generator=Generator().manual_seed(3))
    assert torch.equal(users, draws)
    # the last user has three steps alone
    short = LOG.rows(torch.tensor([7, 7]))
    (batch,) = sample_rows(short, 5, updates=1, generator=generator)
    assert batch.mask.shape == (5, 3)


@pytest.mark.parametrize(("whole_only", "sizes"), [(False, [3, 3, 2]), (True, [3, 3])])
def test_shuffled_rows_come_once(whole_only: bool, sizes: list[int]) -> None:
    batches = list(shuffle_rows(LOG, 3, generator=Generator().manual_seed(1), whole_only=whole_only))
    assert [len(batch.mask) for batch in batches] == sizes
    users = torch.cat([batch.user[:, 0] for batch in batches]).tolist()
    assert len(set(users)) == len(users)
    assert users != sorted(users)
    assert all(batch.mask.shape[1] == LOG.mask.shape[1] for batch in batches)
