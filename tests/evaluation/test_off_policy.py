from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.config import DataConfig, EvaluateConfig
from slatewise.data.prepared import Dataset, Kind
from slatewise.data.splits import split_log
from slatewise.encoders import window
from slatewise.evaluation import (
    LoggedPropensities,
    count_propensities,
    estimate_off_policy,
    estimate_to_json,
    evaluate,
)
from slatewise.log import LogPart
from slatewise.policies.fixed import FixedPolicy
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Policy
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.types import Estimate

EVALUATED = FixedPolicy((0.5, 0.25, 0.25))


def shown(item: int, propensity: float, pay: float) -> dict[str, Any]:
    return {"items": [item], "rewards": [pay], "logp": [math.log(propensity)], "used": [0] if pay else []}


# Of each user the first event trains, the others test.
USERS = [
    [shown(2, 0.9, 1.0), shown(2, 0.25, 1.0), shown(3, 0.5, 4.0)],
    [shown(4, 0.9, 1.0), shown(4, 0.125, 5.0)],
]


def held_out(data: Dataset) -> LogPart:
    """All but the first event of each user."""
    whole = LogPart.whole(data.interactions)
    return replace(whole, first=np.ones_like(whole.first))


def dataset(tmp_path: Path, users: list[list[dict[str, Any]]], kind: Kind = "impressions") -> Dataset:
    return toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(3), kind=kind)


def off_policy_value(
    policy: Policy, data: Dataset, config: EvaluateConfig, behaviour: Policy | None = None
) -> Estimate:
    only_uses = data.kind == "uses"
    return estimate_off_policy(policy, held_out(data), config, behaviour=behaviour, only_uses=only_uses)


def test_logged_propensities_by_hand(tmp_path: Path) -> None:
    data = dataset(tmp_path, USERS)
    estimate = off_policy_value(EVALUATED, data, EvaluateConfig(k=(1,)))
    # weights .5/.25 = 2, .25/.5 = ½, .25/.125 = 2: (2 · 1 + ½ · 4 + 2 · 5) / 4.5; the training events do not count
    assert estimate.value == pytest.approx(14 / 4.5)
    assert estimate.steps == 3


def test_a_reward_threshold_applies_here_too(tmp_path: Path) -> None:
    data = dataset(tmp_path, USERS)
    config = EvaluateConfig(k=(1,), liked_at_least=4.0)
    estimate = off_policy_value(EVALUATED, data, config)
    assert estimate.value == pytest.approx(2.5 / 4.5)


def test_a_fitted_behaviour_policy_stands_for_missing_propensities(tmp_path: Path) -> None:
    bare = [[{name: value for name, value in event.items() if name != "logp"} for event in user] for user in USERS]
    data = dataset(tmp_path, bare, kind="uses")
    assert count_propensities(held_out(data)).single_draws == 0
    behaviour = FixedPolicy((0.25, 0.5, 0.25))
    estimate = off_policy_value(EVALUATED, data, EvaluateConfig(k=(1,)), behaviour=behaviour)
    # weights 2, ½, 1: (2 + 2 + 5) / 3.5
    assert estimate.value == pytest.approx(9 / 3.5)
    assert estimate.verdict == "cannot judge"
    assert any(reason.startswith("the log holds only what users used") for reason in estimate.reasons)
    assert "the propensities were fitted to the log, not logged" in estimate.reasons


SLATE = {"items": [2, 3, 4], "rewards": [1.0, 0.0, 9.0], "logp": [-1.0, -2.0, -0.5]}
BARE = {"items": [2], "rewards": [9.0], "used": [0]}


def test_propensities_are_counted_by_their_kind(tmp_path: Path) -> None:
    counted = count_propensities(held_out(dataset(tmp_path, [[*USERS[0], SLATE], [*USERS[1], BARE]])))
    # the first event of each user is not held out
    assert counted == LoggedPropensities(single_draws=3, in_slates=3, missing=1, slate_size=3)


def test_steps_without_the_right_propensity_are_left_out_and_counted(tmp_path: Path) -> None:
    expected = off_policy_value(EVALUATED, dataset(tmp_path / "whole", USERS), EvaluateConfig(k=(1,)))
    data = dataset(tmp_path, [[*USERS[0], SLATE], [*USERS[1], BARE]])
    estimate = off_policy_value(EVALUATED, data, EvaluateConfig(k=(1,)))
    assert (estimate.value, estimate.steps, estimate.propensities) == (expected.value, 3, "logged")
    assert estimate.left_out == {"no propensity": 1, "the propensity of a slate, not of a single draw": 3}
    assert expected.left_out == {}


def test_one_blank_propensity_costs_one_row(tmp_path: Path) -> None:
    """Of 3,000 rows the 2,999 that have a propensity enter the estimate as if the other were not there."""
    generator = np.random.default_rng(0)
    users = [
        [shown(2, 0.9, 0.0), *(shown(int(item), 0.5, float(pay)) for item, pay in zip(items, pays, strict=True))]
        for items, pays in zip(generator.integers(2, 5, (300, 10)), generator.integers(0, 2, (300, 10)), strict=True)
    ]
    without = [user[:4] + user[5:] if number == 7 else user for number, user in enumerate(users)]
    blank = [[dict(event) for event in user] for user in users]
    del blank[7][4]["logp"]
    expected = off_policy_value(EVALUATED, dataset(tmp_path / "without", without), EvaluateConfig(k=(1,)))
    estimate = off_policy_value(EVALUATED, dataset(tmp_path, blank), EvaluateConfig(k=(1,)))
    assert (estimate.steps, estimate.left_out) == (2999, {"no propensity": 1})
    assert (expected.steps, expected.left_out) == (2999, {})
    assert (estimate.value, estimate.interval, estimate.ess) == (expected.value, expected.interval, expected.ess)


def test_slates_with_propensities_are_named_where_fitted_ones_stand_for_them(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[USERS[0][0], SLATE], [USERS[1][0], SLATE]])
    part = held_out(data)
    alone = estimate_off_policy(EVALUATED, part, EvaluateConfig(k=(1,)), behaviour=None, only_uses=False)
    assert (alone.steps, alone.verdict) == (0, "cannot judge")
    assert alone.left_out == {"the propensity of a slate, not of a single draw": 6}
    assert alone.reasons[0].startswith("the log's propensities are of slates of up to 3, not of single draws")
    fitted = off_policy_value(EVALUATED, data, EvaluateConfig(k=(1,)), behaviour=FixedPolicy((0.25, 0.5, 0.25)))
    assert (fitted.steps, fitted.propensities, fitted.left_out) == (6, "fitted", {})
    assert fitted.reasons[-1] == (
        "the log's propensities are of slates of up to 3, not of single draws; those used were fitted to the log"
    )


def test_the_range_of_the_rewards_is_that_of_the_whole_log(tmp_path: Path) -> None:
    trained_on_more = [[shown(2, 0.9, 50.0), *USERS[0][1:]], USERS[1]]
    estimate = off_policy_value(EVALUATED, dataset(tmp_path, trained_on_more), EvaluateConfig(k=(1,)))
    assert estimate.value == pytest.approx(14 / 4.5)
    assert 5 < estimate.interval[1] < 50
    liked = off_policy_value(EVALUATED, dataset(tmp_path / "liked", USERS), EvaluateConfig(k=(1,), liked_at_least=4.0))
    assert 0 < liked.interval[0] < liked.value < liked.interval[1] < 1


def test_an_estimate_as_json_holds_it(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[*USERS[0], SLATE], [*USERS[1], BARE]])
    estimate = off_policy_value(EVALUATED, data, EvaluateConfig(k=(1,)))
    stored = json.loads(json.dumps(estimate_to_json(estimate), allow_nan=False))
    assert set(stored) == set(Estimate.__dataclass_fields__) - {"contributions"}
    assert stored["left_out"] == estimate.left_out
    # three weights have no tail
    assert (stored["pareto_k"], estimate.pareto_k) == (None, -math.inf)


class Sticky(RankedPolicy):
    """Shows mostly what was picked last: its probabilities tell which state was read."""

    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        last = torch.nn.functional.one_hot(state[:, 0].long(), self.num_rows).float() * math.log(8)
        return last if items is None else last.gather(1, items)


@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize("max_history", [1, 100])
def test_each_event_is_evaluated_in_the_state_just_before_it(tmp_path: Path, batch_size: int, max_history: int) -> None:
    catalog = toy_catalog(3)
    sticky = Sticky(window.Encoder(window.Config(length=1), catalog), catalog.num_rows)
    data = dataset(tmp_path, USERS)
    config = EvaluateConfig(k=(1,), batch_size=batch_size, max_history=max_history)
    estimate = off_policy_value(sticky, data, config)
    # 2 after 2: .8/.25 = 3.2 · 1; 3 after 2: .1/.5 = .2 · 4; 4 after 4: .8/.125 = 6.4 · 5
    assert estimate.value == pytest.approx((3.2 + 0.8 + 32) / 9.8)


def test_evaluation_estimates_only_where_it_can(tmp_path: Path) -> None:
    data, config = dataset(tmp_path, USERS), EvaluateConfig(k=(1,))
    assert (
        evaluate(EVALUATED, data, held_out(data), config, trained_on=LogPart.whole(data.interactions)).estimate
        is not None
    )
    assert (
        evaluate(
            EVALUATED, data, held_out(data), config, trained_on=LogPart.whole(data.interactions), off_policy=False
        ).estimate
        is None
    )
    evaluation = evaluate(EVALUATED, data, held_out(data), config, trained_on=LogPart.whole(data.interactions))
    report = json.loads(json.dumps(evaluation.to_json()))["off_policy"]
    assert report["value"] == pytest.approx(14 / 4.5)
    assert "contributions" not in report
    assert len(report["interval"]) == 2


def test_nothing_held_out_gives_no_value(tmp_path: Path) -> None:
    data = dataset(tmp_path, USERS)
    config = DataConfig(path="", split="first_share", valid_share=0.0, test_share=0.0)
    nothing = split_log(config, data.interactions).test
    estimate = estimate_off_policy(EVALUATED, nothing, EvaluateConfig(k=(1,)), behaviour=None, only_uses=False)
    assert (estimate.steps, estimate.verdict) == (0, "cannot judge")
