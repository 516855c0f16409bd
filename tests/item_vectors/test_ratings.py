from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from slatewise.data.ratings import Ratings, ratings
from slatewise.item_vectors.ratings import factorise, rating_columns, variational_codes
from slatewise.log import LogPart
from slatewise.testing import written_log


def generator() -> Generator:
    return Generator().manual_seed(0)


def tastes(users: int = 80, items: int = 30, *, share: float = 0.5) -> tuple[Ratings, Tensor]:
    """Ratings by taste: even users like even items; and the whole table."""
    draw = generator()
    user, item = torch.arange(users).unsqueeze(1), torch.arange(items)
    table = torch.where((user + item) % 2 == 0, 4.0, 1.0) + torch.randint(2, (users, items), generator=draw)
    is_rated = torch.rand(users, items, generator=draw) < share
    offsets = torch.nn.functional.pad(is_rated.sum(dim=1).cumsum(0), (1, 0))
    log = Ratings(
        offsets=offsets, item=(item + 2).expand(users, -1)[is_rated], value=table[is_rated], num_rows=items + 2
    )
    return log, table


def by_hand() -> Ratings:
    rows: list[list[dict[str, list[float]]]] = [
        [{"items": [2], "rewards": [5.0]}, {"items": [4], "rewards": [1.0]}],
        [{"items": [4], "rewards": [3.0]}],
    ]
    return ratings(LogPart.whole(written_log(rows)), num_rows=5)


def test_columns_by_hand() -> None:
    columns = rating_columns(by_hand(), generator=generator())
    assert columns.tolist() == [[0, 0], [0, 0], [1, 0], [0, 0], [-1, 0]]


def test_projected_columns_keep_their_distances() -> None:
    log, _ = tastes(400, 12)
    whole = rating_columns(log, generator=generator())
    projected = rating_columns(log, generator=generator(), most=10)
    assert projected.shape == (14, 512)
    ratio = torch.pdist(projected[2:]) / torch.pdist(whole[2:])
    assert float((ratio - 1).abs().max()) < 0.15


def test_factors_fill_in_what_was_not_rated() -> None:
    log, table = tastes()
    factors = factorise(log, width=2, generator=generator())
    users, items = torch.arange(80), torch.arange(2, 32).expand(80, -1)
    _, rated = log.of(users, items)
    error = (factors.of(users, items) - table)[~rated]
    assert float(error.square().mean().sqrt()) < 0.65  # the noise alone is ½
    assert float(factors.of(users, items).max()) <= 5.0


def test_the_first_solution_is_ridge_regression_by_hand() -> None:
    """One user, one factor: x = Σ y r / (Σ y² + penalty · count), of what mean and biases leave."""
    log = by_hand()
    factors = factorise(log, width=1, rounds=1, damping=0.0, penalty=0.5, generator=generator())
    first = torch.empty(5, 1).normal_(0, 0.1, generator=generator())[:, 0]
    # mean 3; item biases 2 and −1; what they leave: 0 and −1, 1; so user biases −½ and 1
    torch.testing.assert_close(factors.item_bias, torch.tensor([0.0, 0.0, 2.0, 0.0, -1.0]))
    rest = torch.tensor([5 - 3 - 2 + 0.5, 1 - 3 + 1 + 0.5])
    y = first[[2, 4]]
    torch.testing.assert_close(factors.user[0, 0], (y * rest).sum() / (y.square().sum() + 0.5 * 2))


def test_one_user_after_another_gives_the_same_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = tastes(20, 10)
    whole = factorise(log, width=3, generator=generator())
    monkeypatch.setattr("slatewise.item_vectors.ratings.OUTER", 60)
    torch.testing.assert_close(factorise(log, width=3, generator=generator()).user, whole.user)


def test_codes_tell_tastes_apart() -> None:
    log, _ = tastes(200)
    codes = variational_codes(log, width=2, hidden=16, epochs=60, batch_size=16, generator=generator())
    assert codes.shape == (32, 2)
    assert not codes[:2].any()
    even, odd = codes[2::2], codes[3::2]
    between = float((even.mean(dim=0) - odd.mean(dim=0)).norm())
    within = float(torch.cat([even - even.mean(dim=0), odd - odd.mean(dim=0)]).norm(dim=1).mean())
    assert between > 4 * within


def test_an_item_nobody_rated_stands_at_nought() -> None:
    log = by_hand()
    assert not variational_codes(log, width=3, epochs=2, generator=generator())[3].any()
    assert not factorise(log, width=3, generator=generator()).item[3].any()


def test_the_same_seed_gives_the_same_vectors() -> None:
    log, _ = tastes(30, 10)
    once, twice = (variational_codes(log, epochs=3, generator=generator()) for _ in range(2))
    assert torch.equal(once, twice)


def test_no_factor_at_all() -> None:
    with pytest.raises(ValueError, match="width is 0; expected at least 1 factor"):
        factorise(by_hand(), width=0, generator=generator())
