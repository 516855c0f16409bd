"""An index as arrays and back: every answer alike, and nothing unchecked reaches faiss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from slatewise.retrieval.approximate import Approximate, Config

SMALL = Config(flat_below=10, lists=8, probes=3)


def vectors(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 6, generator=Generator().manual_seed(seed))


def fitted() -> Approximate:
    return Approximate(SMALL).fit(vectors(500), torch.arange(2, 502))


def test_an_index_from_its_arrays_answers_alike() -> None:
    index, query = fitted(), vectors(40, seed=1)
    arrays = index.arrays()
    again = Approximate.from_arrays({name: array.clone() for name, array in arrays.items()}, SMALL)
    assert (len(again), again.probes, again.flat) == (500, 3, False)
    for mine, theirs in zip(again.search(query, 20), index.search(query, 20), strict=True):
        assert torch.equal(mine, theirs)
    for name, array in again.arrays().items():
        assert torch.equal(array, arrays[name]), name


def test_an_index_from_its_arrays_takes_and_loses_items() -> None:
    index, query = fitted(), vectors(2, seed=2)
    again = Approximate.from_arrays(index.arrays(), SMALL)
    for each in (index, again):
        each.add(50 * query, torch.tensor([900, 901]))
        each.remove(torch.tensor([7, 8]))
        each.replace(40 * query[:1], torch.tensor([9]))
    assert torch.equal(again.search(query, 500)[0], index.search(query, 500)[0])
    assert again.search(query, 1)[0].flatten().tolist() == [900, 901]
    assert not bool(torch.isin(again.search(query, 300)[0], torch.tensor([7, 8])).any())


def test_a_flat_index_has_nothing_to_keep() -> None:
    with pytest.raises(ValueError, match="the flat form has nothing to keep; fit it again"):
        Approximate().fit(vectors(30)).arrays()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("codes"), "codes is missing; expected torch.uint8 with 2"),
        (
            lambda a: a.update(ids=a["ids"].int()),
            "ids has the type torch.int32 and 1 axes; expected torch.int64",
        ),
        (lambda a: a["centroids"].fill_(torch.nan), "centroids holds NaN or infinity"),
        (lambda a: a.update(codes=a["codes"][:, :5]), r"codes has the shape \(500, 5\); expected \(500, 6\)"),
        (lambda a: a.update(ranges=a["ranges"][:6]), r"ranges has the shape \(6,\); expected \(12,\)"),
        (lambda a: a["offsets"].__setitem__(3, 499), "offsets do not lead from 0 to 500 without a step back"),
        (lambda a: a["offsets"].__setitem__(-1, 501), "offsets do not lead from 0 to 500"),
        (lambda a: a["ids"].__setitem__(0, a["ids"][1].item()), "ids hold a negative number, or one twice"),
        (lambda a: a["ids"].__setitem__(0, -3), "ids hold a negative number, or one twice"),
        (lambda a: a.update(probes=torch.tensor(9)), "probes is 9; expected 1 … 8"),
        (lambda a: a.pop("probes"), "probes is 0; expected 1 … 8"),
    ],
)
def test_arrays_that_make_no_index(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    arrays = {name: array.clone() for name, array in fitted().arrays().items()}
    change(arrays)
    with pytest.raises(ValueError, match=message):
        Approximate.from_arrays(arrays)
