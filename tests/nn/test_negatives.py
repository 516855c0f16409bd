import pytest
import torch
from torch import Tensor

from slatewise.nn.negatives import NegativeSampler, Sampler

KINDS: tuple[Sampler, ...] = ("uniform", "log_uniform", "popularity", "in_batch")
every_kind = pytest.mark.parametrize("kind", KINDS)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw_shown(size: int = 64, num_rows: int = 102) -> Tensor:
    # item 2 is a third of the log
    items = torch.randint(2, num_rows, (size,), generator=_generator(5))
    items[: size // 3] = 2
    return items


@every_kind
def test_negatives_are_real_items(kind: Sampler) -> None:
    sampler, generator = NegativeSampler(kind, 20, 102), _generator()
    for _ in range(5):
        drawn = sampler.draw(_draw_shown(), generator)
        assert int(drawn.items.min()) >= 2
        assert int(drawn.items.max()) <= 101
        assert bool(torch.isfinite(drawn.log_weight).all())


def test_popularity_follows_what_was_shown() -> None:
    sampler, generator = NegativeSampler("popularity", 10, 102), _generator()
    sampler.draw(_draw_shown(), generator)
    hits = sum(int((sampler.draw(_draw_shown(), generator).items == 2).sum()) for _ in range(50))
    assert hits == 50  # its share of the draws is above a tenth: one of ten strata at least
    assert sampler.uses[0] == 51 * 21 + 51 * int((_draw_shown()[21:] == 2).sum())


def test_log_uniform_puts_the_most_used_first() -> None:
    sampler = NegativeSampler("log_uniform", 10, 102)
    sampler.draw(torch.tensor([50, 50, 50, 7, 7]), _generator())
    assert sampler.ranked is not None
    assert sampler.ranked[:3].tolist() == [50, 7, 2]


def test_in_batch_weights_by_hand() -> None:
    sampler = NegativeSampler("in_batch", 1, 102)
    # both batches have the same shares: 5 is half of the log
    sampler.draw(torch.tensor([5, 5, 8, 9]), _generator())
    drawn = sampler.draw(torch.tensor([5, 5, 8, 9]), _generator())
    assert drawn.items.tolist() == [5, 8, 9]
    # twice of 3 · ½ expected; once of 3 · ¼
    torch.testing.assert_close(drawn.log_weight.exp(), torch.tensor([4 / 3, 4 / 3, 4 / 3]))


def test_the_distribution_is_drawn_up_anew_after_1_2_4_steps_and_then_regularly() -> None:
    sampler, generator = NegativeSampler("popularity", 5, 102, refresh=6), _generator()
    changed = []
    for step in range(1, 14):
        assert sampler.cumulative is not None
        initial = sampler.cumulative.clone()
        sampler.draw(torch.full((4,), step + 1), generator)
        if not torch.equal(initial, sampler.cumulative):
            changed.append(step)
    assert changed == [1, 2, 4, 6, 8, 12]


@every_kind
def test_a_resumed_sampler_goes_on_bit_for_bit(kind: Sampler) -> None:
    original, generator = NegativeSampler(kind, 20, 102), _generator()
    for _ in range(3):
        original.draw(_draw_shown(), generator)
    other, resumed = NegativeSampler(kind, 20, 102), _generator()
    other.load_state_dict({name: value.clone() for name, value in original.state_dict().items()})
    resumed.set_state(generator.get_state())
    for _ in range(3):
        first, second = original.draw(_draw_shown(), generator), other.draw(_draw_shown(), resumed)
        assert torch.equal(first.items, second.items)
        assert torch.equal(first.log_weight, second.log_weight)


def test_a_sampler_of_another_catalog_is_refused() -> None:
    state = NegativeSampler("popularity", 5, 50).state_dict()
    with pytest.raises(ValueError, match='not "popularity" over 100 items'):
        NegativeSampler("popularity", 5, 102).load_state_dict(state)


def test_no_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match="num_negatives is 0"):
        NegativeSampler("uniform", 0, 102)
