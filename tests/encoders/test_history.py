"""What the recurrent encoders read of a history."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator

from slatewise.encoders import gru
from slatewise.encoders._history import HistoryConfig, HistoryReader
from slatewise.log import UNKNOWN, LogPart
from slatewise.testing import check_encoder, toy_catalog, written_log


def edges(rewards: list[float], **settings: Any) -> tuple[float, ...] | None:
    events = [{"items": [2], "rewards": [reward], "context": [0.0] * 3} for reward in rewards]
    events += [{"items": [2], "used": [], "context": [0.0] * 3}]
    resolved = HistoryConfig(**settings).resolve(LogPart.whole(written_log([events])))
    assert resolved.context_width == 3
    return resolved.reward_edges


def test_few_different_rewards_get_a_bucket_each() -> None:
    assert edges([5, 1, 3, 3, 1]) == (3.0, 5.0)
    assert edges([1, 1]) == ()
    assert edges([]) == ()


def test_many_different_rewards_are_cut_at_quantiles() -> None:
    # 0 … 80: eight buckets of ten
    assert edges([float(reward) for reward in range(81)]) == (10, 20, 30, 40, 50, 60, 70)
    # most are 0: of the quantiles at 0, 10, … 70 only the last is another number
    assert edges([0.0] * 70 + [float(reward) for reward in range(1, 12)]) == (1.0,)


def test_what_the_configuration_names_is_kept() -> None:
    assert edges([1.0, 2.0], reward_edges=(1.5,)) == (1.5,)
    assert edges([1.0, 2.0], reward_edges=()) == ()
    log = written_log([[{"items": [2], "context": [0.0] * 3}]])
    resolved = HistoryConfig(context_width=1).resolve(LogPart.whole(log))
    assert resolved.context_width == 1


def reader(**settings: Any) -> HistoryReader:
    made = HistoryReader(HistoryConfig(**{"item_width": 4, "reward_edges": (3.0,), **settings}), toy_catalog())
    made.reset(Generator().manual_seed(0))
    return made


def test_a_read_is_item_plus_bucket() -> None:
    part = reader()
    with torch.no_grad():
        found = part.read(torch.tensor([5, 5, UNKNOWN]), torch.tensor([2.0, 3.0, 0.0]))
        item, bucket = part.item.weight, part.bucket
        torch.testing.assert_close(found, torch.stack([item[5] + bucket[0], item[5] + bucket[1], bucket[0]]))


def test_rewards_that_are_not_read_change_nothing() -> None:
    part = reader(reward_edges=())
    with torch.no_grad():
        items = torch.tensor([5, 6])
        assert torch.equal(part.read(items, torch.tensor([1.0, 5.0])), part.read(items, torch.zeros(2)))


def test_dropout_draws_from_the_generator_it_was_given_and_keeps_the_mean() -> None:
    part = reader(dropout=0.25)
    items, rewards = torch.full((4000,), 5), torch.zeros(4000)
    part.dropout.generator = Generator().manual_seed(1)
    with torch.no_grad():
        dropped = part.train().read(items, rewards)
        part.dropout.generator = Generator().manual_seed(1)
        assert torch.equal(part.read(items, rewards), dropped)
        whole = part.eval().read(items, rewards)
    gone = float((dropped == 0).float().mean())
    assert gone == pytest.approx(0.25, abs=0.014)  # 4 σ = 4 √(.25 · .75 / 16,000)
    torch.testing.assert_close(dropped[dropped != 0], (whole / 0.75)[dropped != 0])


def test_contexts_are_added_by_their_matrix() -> None:
    part = reader(context_width=2, width=3)
    state, context = torch.ones(1, 3), torch.tensor([[2.0, -1.0]])
    with torch.no_grad():
        expected = 1 + 2 * part.context[:, 0] - part.context[:, 1]
        torch.testing.assert_close(part.see(state, context)[0], expected)


@pytest.mark.parametrize(
    "settings",
    [{"cell": "lstm"}, {"reward_edges": []}, {"reward_edges": [2.0]}, {"dropout": 0.5}],
    ids=["lstm", "no rewards", "one border", "dropout"],
)
def test_its_settings_keep_the_contract(settings: dict[str, Any]) -> None:
    check_encoder(gru, settings={"width": 6, "item_width": 5, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width 0 and item_width 64 must be at least 1"),
        ({"item_width": 0}, "width 64 and item_width 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0; expected a share in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout is -0\.1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HistoryConfig(**settings)
