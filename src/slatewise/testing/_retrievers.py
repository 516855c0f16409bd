"""What every retriever must keep: nearly the best items by inner product, also after items came and went."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator

from slatewise.protocols import Retriever
from slatewise.testing._contract import expect, expect_close, no_global_randomness

ITEMS, WIDTH, QUERIES, DEPTH = 300, 16, 20, 10
OFFSET = 1000
"""Item numbers are the caller's: these do not start at 0, and have gaps."""


def check_retriever(make: Callable[[], Retriever], *, recall: float = 1.0, score_error: float = 1e-4) -> None:
    """Hold a retriever against its contract, on vectors of varying norm.

    Args:
        make: gives a fresh, empty retriever.
        recall: least share of the exactly best items that it must find.
        score_error: most that a score may be off, as a share of the largest.

    Raises:
        ContractError: the message says what was expected.
    """
    retriever = make()
    where = type(retriever).__name__
    expect(isinstance(retriever, Retriever), f"{where} lacks one of fit, search, add, remove")
    generator = Generator().manual_seed(0)
    vectors = torch.randn(ITEMS, WIDTH, generator=generator) * torch.rand(ITEMS, 1, generator=generator) * 2
    query = torch.randn(QUERIES, WIDTH, generator=generator)
    number = torch.arange(ITEMS) * 3 + OFFSET
    scores = query @ vectors.T
    scale = float(scores.abs().max())
    with no_global_randomness(where):
        expect(retriever.fit(vectors, number) is retriever, f"{where}: fit gives back something else than itself")
        items, item_scores = retriever.search(query, DEPTH)
        shape = (QUERIES, DEPTH)
        expect(
            tuple(items.shape) == shape and tuple(item_scores.shape) == shape and items.dtype == torch.int64,
            f"{where}: search gives {items.dtype} {tuple(items.shape)}, {tuple(item_scores.shape)}; "
            f"expected int64 {shape}",
        )
        expect(bool((item_scores.diff(dim=1) <= 0).all()), f"{where}: scores do not descend")
        all_fitted = bool(torch.isin(items, number).all())
        expect(all_fitted, f"{where}: search gives item numbers that were never fitted")
        expect(all(len(set(row)) == DEPTH for row in items.tolist()), f"{where}: an item is found twice for one query")
        true = scores.gather(1, (items - OFFSET) // 3)
        message = f"{where}: scores (as shares of the largest) against inner products"
        expect_close(item_scores / scale, true / scale, message, tolerance=score_error)
        best = number[scores.topk(DEPTH, dim=1).indices]
        share = float((items.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).float().mean())
        expect(share >= recall, f"{where}: finds {share:.3f} of the best {DEPTH} items; expected at least {recall}")

        new = torch.tensor([7, 5])
        retriever.add(torch.stack([query[0], query[1]]) * 50, new)
        first = retriever.search(query[:2], 1)[0].flatten().tolist()
        expect(first == [7, 5], f"{where}: two items that fit best were added as 7 and 5; search finds {first} first")
        retriever.remove(torch.tensor([7]))
        left = retriever.search(query[:2], DEPTH)[0]
        expect(not bool((left == 7).any()), f"{where}: item 7 was removed, and is still found")
        expect(int(left[1, 0]) == 5, f"{where}: item 5 was lost when item 7 was removed")
        retriever.remove(torch.tensor([5]))
        items_again, _ = retriever.search(query, DEPTH)
        message = f"{where}: what is found after two items were added and removed, against before"
        expect_close(items_again, items, message, tolerance=0.0)

        plain = make().fit(vectors)
        numbered = plain.search(query, DEPTH)[0] * 3 + OFFSET
        expect_close(numbered, items, f"{where}: fitted without item numbers, that is 0 … N − 1", tolerance=0.0)
