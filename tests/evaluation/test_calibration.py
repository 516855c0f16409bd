"""β̂ beside what was shown."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.config import DataConfig, EvaluateConfig
from slatewise.config.run import RunConfig
from slatewise.data.splits import split_log
from slatewise.evaluation import Calibration, calibrate, evaluate
from slatewise.log import FIRST_ITEM, LogPart
from slatewise.methods import cloning, reinforce
from slatewise.protocols import EstimatesBehaviour
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.training.finished_run import open_run
from slatewise.training.loop import train
from slatewise.types import Trajectories

SHARES = (0.6, 0.3, 0.1)


@dataclasses.dataclass
class Fixed:
    """Says the same of every state, and remembers which logging policies it was asked about."""

    shares: tuple[float, ...]
    asked: list[int] = dataclasses.field(default_factory=list)

    def behaviour_states(self, trajectories: Trajectories) -> Tensor:
        return torch.zeros(len(trajectories.mask), trajectories.mask.shape[1] + 1, 1)

    def log_behaviour(self, state: Tensor, logged_by: Tensor) -> Tensor:
        self.asked += logged_by.tolist()
        row = torch.cat([torch.full((FIRST_ITEM,), float("-inf")), torch.tensor(self.shares).log()])
        return row.expand(len(state), -1)


def judged(policy: Fixed, part: LogPart) -> Calibration:
    found = calibrate(policy, part, EvaluateConfig(k=(1,)), num_rows=len(policy.shares) + FIRST_ITEM)
    assert found is not None
    return found


def test_by_hand(tmp_path: Path) -> None:
    # four test events show items 2, 2, 2, 3; the first event of each user trains and does not count
    users = [[{"items": [item], "policy": 1} for item in (4, 2, 2)], [{"items": [i], "policy": 2} for i in (4, 2, 3)]]
    data = toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(3))
    part = LogPart(interactions=data.interactions, first=np.array([1, 1]), last=np.array([3, 3]))
    policy = Fixed((0.5, 0.25, 0.25))
    found = judged(policy, part)
    assert found.shown == 4
    assert policy.asked == [1, 1, 2, 2]
    # bins at 1/4 (eight forecasts, one came true) and 1/2 (four, three came true)
    assert found.forecasts == (8, 4)
    assert found.predicted == pytest.approx((0.25, 0.5))
    assert found.observed == pytest.approx((1 / 8, 3 / 4))
    assert found.ece == pytest.approx((1 + 1) / 4)
    expected = math.sqrt(2 / math.pi) * (math.sqrt(8 * 3 / 16) + math.sqrt(4 / 4)) / 4
    assert found.ece_by_chance == pytest.approx(expected)
    assert found.log_likelihood == pytest.approx((3 * math.log(0.5) + math.log(0.25)) / 4)


def test_a_slate_is_as_many_draws_as_it_shows(tmp_path: Path) -> None:
    users = [[{"items": [2]}, {"items": [2, 3]}]]
    data = toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(3), kind="impressions")
    part = LogPart(interactions=data.interactions, first=np.array([1]), last=np.array([2]))
    found = judged(Fixed((0.5, 0.25, 0.25)), part)
    assert found.shown == 2
    assert found.forecasts == (4, 2)
    assert found.observed == pytest.approx((1 / 4, 1 / 2))


def test_true_probabilities_show_no_more_error_than_chance(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    users = [[{"items": [int(i)]} for i in draw.choice([2, 3, 4], p=SHARES, size=30)] for _ in range(40)]
    data = toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(3))
    config = DataConfig(path="", split="first_share", valid_share=0.1, test_share=0.8)
    part = split_log(config, data.interactions).test
    true, wrong = (judged(Fixed(shares), part) for shares in (SHARES, SHARES[::-1]))
    assert true.ece < 2.5 * true.ece_by_chance
    assert wrong.ece > 5 * wrong.ece_by_chance
    assert true.log_likelihood > wrong.log_likelihood


def test_nothing_held_out(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path / "data")
    last = np.diff(data.interactions.user_offsets)
    nothing = LogPart(interactions=data.interactions, first=last, last=last)
    assert len(last) > 0
    assert calibrate(Fixed(SHARES), nothing, EvaluateConfig(k=(1,)), num_rows=data.catalog.num_rows) is None


def test_who_estimates_behaviour() -> None:
    assert issubclass(reinforce.Policy, EstimatesBehaviour)
    assert issubclass(cloning.Policy, EstimatesBehaviour)


@pytest.mark.parametrize("behaviour", ["shared", "separate", "frequency", "by_policy"])
def test_a_trained_run_says_how_well_it_knows_the_log(behaviour: str, tmp_path: Path) -> None:
    data = toy_dataset(tmp_path / "data")
    policies = 2 if behaviour == "by_policy" else 0
    estimate = {"model": behaviour, "logging_policies": policies}
    method = {"name": "reinforce", "behaviour": estimate, "slate_size": 2}
    tables = {"data": {"path": str(data.path)}, "method": method, "train": {"epochs": 1, "select": "ndcg@5"}}
    run = open_run(train(RunConfig.from_tables(tables | {"evaluate": {"k": [5]}}), tmp_path / "run").folder)
    found = evaluate(
        run.artifact.policy,
        run.dataset,
        run.split.part("test"),
        run.artifact.config.evaluate,
        trained_on=run.split.part("train"),
    )
    assert found.behaviour is not None
    # every forecast is counted, and the probabilities of a state sum to one
    assert sum(found.behaviour.forecasts) == found.behaviour.shown * data.catalog.num_items
    expected = sum(p * n for p, n in zip(found.behaviour.predicted, found.behaviour.forecasts, strict=True))
    assert expected == pytest.approx(found.behaviour.shown, rel=1e-4)
    assert json.loads(json.dumps(found.to_json()))["behaviour"]["ece"] == found.behaviour.ece
