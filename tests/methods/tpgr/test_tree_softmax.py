from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from slatewise.methods.tpgr.tree_softmax import CHUNK, Limits, TreeSoftmax, unique
from slatewise.nn.item_table import item_tables
from slatewise.retrieval.tree import in_order

NEG_INF = float("-inf")


def head(items: int, depth: int, *, arity: int | None = None, hidden: int = 4, seed: int = 0) -> TreeSoftmax:
    generator = Generator().manual_seed(seed)
    tree = in_order(torch.arange(2, items + 2), depth=depth, arity=arity)
    made = TreeSoftmax(3, items + 2, depth=depth, arity=tree.arity, hidden=hidden, generator=generator)
    return made.requires_grad_(False)


def states(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, generator=Generator().manual_seed(seed))


def by_hand() -> TreeSoftmax:
    """Items 2, 3 | 4: the root gives its children 3/4 and 1/4, the left node its own 1/3 and 2/3."""
    tree = TreeSoftmax(1, 5, depth=2, arity=2, hidden=0).requires_grad_(False)
    root, nodes = (table.weight for table in item_tables(tree).values())
    root[0] = torch.tensor([0.0, math.log(3), 0.0, 0.0])  # (weight of the state, bias) of each child
    nodes[0] = torch.tensor([0.0, 0.0, math.log(2), 0.0])  # the right child likes a state of 1
    return tree


def test_probabilities_by_hand() -> None:
    tree = by_hand()
    assert tree.leaf_item.tolist() == [2, 3, 4, 0]
    layer = tree.layer(torch.ones(1, 1))
    expected = torch.tensor([[3 / 4 * 1 / 3, 3 / 4 * 2 / 3, 1 / 4]])
    torch.testing.assert_close(tree.log_pi(layer, torch.tensor([[2, 3, 4]])).exp(), expected)
    torch.testing.assert_close(tree.whole(layer).exp()[:, :3], expected)
    # two choices from 2, and one that is none
    half = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    third = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    log_prob, entropy = tree.path_log_prob(layer.expand(2, -1, -1), torch.tensor([0, 2]))
    torch.testing.assert_close(log_prob, torch.tensor([1 / 4, 1 / 4]).log())
    torch.testing.assert_close(entropy, torch.tensor([half + third, half]))


def test_a_subtree_closes_with_its_last_item() -> None:
    tree = by_hand()
    layer = tree.layer(torch.ones(1, 1))
    taken = tree.limits(1, exclude=torch.tensor([[2, 0]]))
    # item 3 is now the only one on the left, so the node's own choice is certain
    assert math.exp(float(tree.path_log_prob(layer, torch.tensor([1]), limits=taken)[0])) == pytest.approx(3 / 4)
    assert float(tree.path_log_prob(layer, torch.tensor([0]), limits=taken)[0]) == NEG_INF
    taken = tree.limits(1, exclude=torch.tensor([[2, 3]]))
    assert float(tree.path_log_prob(layer, torch.tensor([2]), limits=taken)[0]) == 0.0
    taken = tree.limits(1, exclude=torch.tensor([[2, 3, 4, 4]]))
    leaf, log_prob = tree.draw(layer, limits=taken, generator=Generator())
    assert (int(leaf), float(log_prob)) == (-1, 0.0)


@given(
    items=st.integers(2, 40),
    depth=st.integers(1, 3),
    taken=st.integers(0, 39),
    some=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40)
def test_what_is_open_has_all_the_probability(items: int, depth: int, taken: int, some: bool, seed: int) -> None:
    arity = next(c for c in range(2, 50) if c**depth >= items)
    tree = head(items, depth, arity=arity, seed=seed)
    layer = tree.layer(states(2, seed))
    draw = Generator().manual_seed(seed)
    exclude = torch.randint(0, items + 2, (2, taken), generator=draw)
    candidates = torch.randint(0, items + 2, (2, 12), generator=draw) if some else None
    limits = tree.limits(2, exclude=exclude, candidates=candidates)
    every = torch.arange(2, items + 2).expand(2, -1)
    gone = (every.unsqueeze(2) == exclude.unsqueeze(1)).any(dim=2)
    if candidates is not None:
        gone |= ~(every.unsqueeze(2) == candidates.unsqueeze(1)).any(dim=2)
    total = torch.zeros(2)
    for leaf in tree.leaf_of[every].T:
        total = total + tree.path_log_prob(layer, leaf, limits=limits, temperature=0.7)[0].exp()
    torch.testing.assert_close(total, (~gone).any(dim=1).float())
    drawn, log_prob = tree.draw(layer, limits=limits, temperature=0.7, generator=draw)
    shown = tree.leaf_item[drawn.clamp(min=0)].masked_fill(drawn < 0, 0)
    for user in range(2):
        assert not bool(gone[user][every[user] == shown[user]].any())
        assert (int(shown[user]) == 0) == bool(gone[user].all())
    found = tree.path_log_prob(layer, drawn, limits=limits, temperature=0.7)[0]
    torch.testing.assert_close(log_prob, found.masked_fill(drawn < 0, 0.0))


def test_walks_come_as_often_as_their_probability_says() -> None:
    tree = head(11, 2)
    layer = tree.layer(states(1))
    limits = tree.limits(1, exclude=torch.tensor([[4, 9]]))
    count = 20_000
    drawn, _ = tree.draw(
        layer.expand(count, -1, -1), limits=limits.rows(torch.zeros(count).long()), generator=Generator().manual_seed(0)
    )
    leaves = torch.arange(len(tree.leaf_item))
    every = limits.rows(torch.zeros(len(leaves)).long())
    share = tree.path_log_prob(layer.expand(len(leaves), -1, -1), leaves, limits=every)[0].exp()
    deviation = (torch.bincount(drawn, minlength=len(leaves)) / count - share) / (share * (1 - share) / count).sqrt()
    assert float(deviation[share > 0].abs().max()) < 4.5
    assert not torch.bincount(drawn, minlength=len(leaves))[share == 0].any()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_wide_beam_finds_the_best_in_order(depth: int) -> None:
    tree = head(30, depth)
    layer = tree.layer(states(5))
    exclude = torch.tensor([[7, 8, 0]]).expand(5, -1)
    values, leaves = tree.beam(layer, 30, limits=tree.limits(5, exclude=exclude))
    every = tree.whole(layer)
    every[:, tree.leaf_of[torch.tensor([7, 8])]] = NEG_INF
    expected, places = every.topk(28, dim=1)
    torch.testing.assert_close(values[:, :28], expected)
    assert torch.equal(leaves[:, :28], places)
    assert bool((leaves[:, 28:] == -1).all())


def test_a_narrow_beam_still_finds_as_many_as_there_are() -> None:
    """All but five items are taken, and they lie in subtrees that the beam would have left first."""
    tree = head(60, 3)
    layer = tree.layer(states(4))
    kept = torch.tensor([3, 17, 31, 45, 60])
    exclude = torch.tensor([[item for item in range(2, 62) if item not in set(kept.tolist())]]).expand(4, -1)
    values, leaves = tree.beam(layer, 5, limits=tree.limits(4, exclude=exclude))
    assert torch.equal(torch.sort(tree.leaf_item[leaves], dim=1).values, kept.expand(4, -1))
    assert bool((values[:, :-1] >= values[:, 1:]).all())


def test_chunks_change_nothing() -> None:
    tree = head(50, 2)
    layer = tree.layer(states(CHUNK + 9))
    leaf = torch.arange(CHUNK + 9) % 50
    whole = tree.path_log_prob(layer, leaf)[0]
    torch.testing.assert_close(whole[-9:], tree.path_log_prob(layer[-9:], leaf[-9:])[0])
    drawn, log_prob = tree.draw(layer, generator=Generator().manual_seed(0))
    torch.testing.assert_close(log_prob, tree.path_log_prob(layer, drawn)[0])
    assert tree.path_log_prob(layer[:0], leaf[:0])[0].shape == (0,)


def test_the_gradient_is_that_of_a_softmax_over_leaves() -> None:
    """∂ Σ log π(a) / ∂ layer through the path and through the whole table."""
    tree = head(20, 2)
    state = states(6).requires_grad_()
    items = torch.arange(2, 8).unsqueeze(1)
    (short,) = torch.autograd.grad(tree.path_log_prob(tree.layer(state), tree.leaf_of[items[:, 0]])[0].sum(), state)
    (long,) = torch.autograd.grad(tree.whole(tree.layer(state)).gather(1, tree.leaf_of[items]).sum(), state)
    torch.testing.assert_close(short, long)
    assert bool(torch.isfinite(short).all())


def test_few_and_many_items_have_the_same_probabilities() -> None:
    tree = head(40, 3)
    layer = tree.layer(states(3))
    every = torch.arange(42).expand(3, -1)
    many = tree.log_pi(layer, every)
    few = torch.cat([tree.log_pi(layer, part) for part in torch.split(every, 1, dim=1)], dim=1)
    torch.testing.assert_close(few, many)
    assert bool((many[:, :2] == NEG_INF).all())
    torch.testing.assert_close(many[:, 2:].exp().sum(dim=1), torch.ones(3))


def test_items_that_leave_the_tree_are_closed_and_new_ones_open() -> None:
    tree = head(10, 2, arity=4)
    planted = in_order(torch.arange(2, 12), depth=2, arity=4)
    planted.remove(torch.tensor([5, 6]))
    tree.plant(planted)
    layer = tree.layer(states(2))
    log_pi = tree.log_pi(layer, torch.arange(2, 12).expand(2, -1))
    assert bool((log_pi[:, 3:5] == NEG_INF).all())
    torch.testing.assert_close(log_pi.exp().sum(dim=1), torch.ones(2))
    planted.add(torch.tensor([6]))
    tree.plant(planted)
    assert bool(torch.isfinite(tree.log_pi(layer, torch.tensor([[6], [6]]))).all())


def test_a_loaded_head_knows_its_tree() -> None:
    one, other = head(12, 2, seed=1), head(12, 2, seed=2)
    shuffled = in_order(torch.randperm(12, generator=Generator().manual_seed(0)) + 2, depth=2)
    one.plant(shuffled)
    other.load_state_dict(one.state_dict())
    layer = one.layer(states(3))
    items = torch.arange(2, 14).expand(3, -1)
    torch.testing.assert_close(other.log_pi(layer, items), one.log_pi(layer, items))


def test_a_tree_that_does_not_fit_is_refused() -> None:
    tree = head(10, 2)
    with pytest.raises(ValueError, match="the tree has depth 1 and arity 10; the policy has 2 and 4"):
        tree.plant(in_order(torch.arange(2, 12), depth=1))
    with pytest.raises(ValueError, match="others than 2 … 11"):
        tree.plant(in_order(torch.arange(3, 13), depth=2))


def test_limits_by_hand() -> None:
    assert unique(torch.tensor([[5, 2, 5, -1, -1, 2]])).tolist() == [[-1, -1, 2, -1, 5, -1]]
    limits = Limits(torch.zeros(1, 0, dtype=torch.int64), torch.tensor([[3, -1, 7]]))
    assert limits.without(torch.tensor([[7]])).only.tolist() == [[3, -1, -1]]  # type: ignore[union-attr]  # as before
    assert Limits(torch.tensor([[3]])).without(torch.tensor([[3, 1]])).excluded.tolist() == [[1, 3, -1]]
