from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from slatewise.retrieval.tree import Cut, Tree, arity_of, build

CUTS: tuple[Cut, ...] = ("pca", "kmeans", "random")


def points(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=Generator().manual_seed(seed))


def numbers(count: int) -> Tensor:
    return torch.arange(2, count + 2)


def built(count: int, depth: int, cut: Cut = "pca", **more: int) -> Tree:
    return build(points(count), numbers(count), depth=depth, cut=cut, generator=Generator().manual_seed(1), **more)


@pytest.mark.parametrize(
    ("items", "depth", "arity"),
    [
        (1682, 1, 1682),
        (1682, 2, 42),
        (1682, 3, 12),
        (1682, 4, 7),
        (1000, 3, 10),  # 1000^(1/3) is 9.999… in floating point
        (1_000_000, 3, 100),
        (1_000_001, 3, 101),
        (125, 3, 5),
        (9, 2, 3),
        (2, 1, 2),
        (5, 3, 2),
    ],
)
def test_the_arity_by_hand(items: int, depth: int, arity: int) -> None:
    assert arity_of(items, depth) == arity


def test_nine_items_need_no_third_level() -> None:
    """c = ⌈9^{1/3}⌉ = 3, but 3² = 9: c^(d−1) < N does not follow from the rule for c."""
    with pytest.raises(
        ValueError, match="depth 3 gives 9 items the arity 3, of which 2 levels hold them all; choose d"
    ):
        arity_of(9, 3)


@pytest.mark.parametrize("items", [0, 1])
def test_one_item_is_no_choice(items: int) -> None:
    with pytest.raises(ValueError, match=f"a tree over {items} items has the arity 1"):
        arity_of(items, 1)


@given(
    count=st.integers(2, 300),
    depth=st.integers(1, 5),
    more=st.integers(0, 3),
    cut=st.sampled_from(CUTS),
    kinds=st.integers(1, 300),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150)
def test_siblings_differ_by_one_at_most(count: int, depth: int, more: int, cut: Cut, kinds: int, seed: int) -> None:
    """Whatever the vectors (some may be the same), the depth and the arity."""
    arity = more + next(c for c in range(2, 301) if c**depth >= count)
    vectors = points(kinds, 3, seed)[torch.arange(count) % kinds]
    items = torch.randperm(count, generator=Generator().manual_seed(seed)) + 2
    tree = build(vectors, items, depth=depth, arity=arity, cut=cut, generator=Generator().manual_seed(seed))
    for level in range(1, depth + 1):
        siblings = tree.sizes(level).view(-1, arity)
        assert int((siblings.amax(dim=1) - siblings.amin(dim=1)).max()) <= 1
    assert torch.equal(torch.sort(tree.leaf_item[tree.leaf_item > 0]).values, numbers(count))
    assert torch.equal(tree.leaf_item[tree.leaves(items)], items)


@pytest.mark.parametrize("cut", ["pca", "kmeans"])
def test_clusters_that_stand_apart_are_found(cut: Cut) -> None:
    """Nine clusters of four points, three of them around each of three farther centres."""
    far, near = torch.zeros(3, 1, 4), torch.zeros(1, 3, 4)
    far[:, 0, 0], near[0, :, 1] = torch.tensor([-100.0, 0.0, 130.0]), torch.tensor([-10.0, 0.0, 13.0])
    vectors = (far + near).flatten(0, 1).repeat_interleave(4, dim=0) + 0.1 * points(36)
    shuffle = torch.randperm(36, generator=Generator().manual_seed(3))
    tree = build(vectors[shuffle], numbers(36)[shuffle], depth=4, arity=3, cut=cut)
    for level, size in ((1, 12), (2, 4)):
        clusters = [set(part[part > 0].tolist()) for part in tree.leaf_item.view(3**level, -1)]
        expected = [set(range(2 + at, 2 + at + size)) for at in range(0, 36, size)]
        assert sorted(map(sorted, clusters)) == list(map(sorted, expected))


def spread(tree: Tree, vectors: Tensor, level: int) -> float:
    """Mean squared distance of an item from the centre of its cluster."""
    item = tree.leaf_item[tree.leaf_item > 0]
    node = tree.leaves(item) // tree.arity ** (tree.depth - level)
    mine = vectors[item - 2]
    total = torch.zeros(tree.arity**level, vectors.shape[1]).index_add_(0, node, mine)
    centre = total / torch.bincount(node, minlength=len(total)).clamp(min=1).unsqueeze(1)
    return float((mine - centre[node]).square().sum(dim=1).mean())


def test_kmeans_is_tighter_than_pca_and_pca_than_chance() -> None:
    vectors = points(40, 8, seed=5)[torch.randint(40, (2000,), generator=Generator().manual_seed(6))]
    vectors = vectors + 0.4 * points(2000, 8, seed=7)
    found = {
        cut: spread(build(vectors, numbers(2000), depth=2, cut=cut, generator=Generator().manual_seed(0)), vectors, 1)
        for cut in CUTS
    }
    assert found["kmeans"] < 0.95 * found["pca"]
    assert found["pca"] < 0.7 * found["random"]


@pytest.mark.parametrize("cut", ["pca", "kmeans"])
def test_vectors_without_numbers_give_a_tree_all_the_same(cut: Cut) -> None:
    tree = build(torch.zeros(30, 0), numbers(30), depth=2, cut=cut)
    assert torch.equal(torch.sort(tree.leaf_item[tree.leaf_item > 0]).values, numbers(30))


def test_large_groups_are_cut_by_a_sample_of_their_rows() -> None:
    vectors = points(20_000, 3) * torch.tensor([10.0, 1.0, 1.0])
    tree = build(vectors, numbers(20_000), depth=15)
    left = tree.leaf_item[: 2**14]
    side = vectors[left[left > 0] - 2, 0]
    assert float((side > 0).float().mean() - 0.5) ** 2 > 0.48**2


def test_the_same_vectors_give_the_same_tree_and_other_cuts_another() -> None:
    assert torch.equal(built(50, 2).leaf_item, built(50, 2).leaf_item)
    assert torch.equal(built(50, 2, "random").leaf_item, built(50, 2, "random").leaf_item)
    assert not torch.equal(built(50, 2).leaf_item, built(50, 2, "random").leaf_item)
    one_level = built(50, 1, "random").leaf_item
    assert one_level.tolist() != sorted(one_level.tolist())


@pytest.mark.parametrize("cut", ["pca", "kmeans"])
def test_items_of_equal_vectors_are_parted_by_their_order(cut: Cut) -> None:
    """Nine equal vectors and nine others: the same tree each time, and nothing but the order parts the equal ones."""
    equal = torch.ones(9, 4)
    tree = build(equal, numbers(9), depth=2, cut=cut, generator=Generator())
    assert tree.leaf_item.tolist() == numbers(9).tolist()
    # equal ones in a cluster of their own, where one has room for all of them
    pairs = torch.tensor([[0.0, 0.0], [9.0, 9.0], [5.0, 0.0]]).repeat(3, 1)
    tree = build(pairs, numbers(9), depth=2, cut=cut, generator=Generator())
    clusters = {frozenset((row - 2) % 3 for row in node) for node in tree.leaf_item.view(3, 3).tolist()}
    assert clusters == {frozenset({0}), frozenset({1}), frozenset({2})}


def test_items_leave_and_come_back_to_their_place() -> None:
    vectors = points(60)
    tree = built(60, 2)
    before = tree.leaf_item.clone()
    sums = [each.clone() for each in tree.sums or ()]
    gone = torch.tensor([7, 30, 61])
    tree.remove(gone, vectors[gone - 2])
    assert len(tree) == 57
    assert tree.leaves(gone).tolist() == [-1, -1, -1]
    assert sorted(tree.leaf_item[before != tree.leaf_item].tolist()) == [0, 0, 0]
    tree.add(gone, vectors[gone - 2])
    assert len(tree) == 60
    assert torch.equal(torch.sort(tree.leaf_item).values, torch.sort(before).values)
    for now, then in zip(tree.sums or (), sums, strict=True):
        torch.testing.assert_close(now.sum(dim=0), then.sum(dim=0), atol=1e-4, rtol=0)


def test_a_new_item_goes_to_its_like_while_there_is_room() -> None:
    vectors = torch.cat([points(8, 2) - 50, points(8, 2, 1) + 50])
    tree = build(vectors, numbers(16), depth=2, arity=5)
    items = torch.tensor([100, 101, 102])
    tree.add(items, torch.full((3, 2), 50.0))
    # which of the five clusters lie at +50, by what stands there
    node = tree.leaves(items) // 5
    beside = {int(n): tree.leaf_item.view(5, 5)[n] for n in node}
    assert all(int(((row > 9) | (row == 0)).float().mean()) == 1 for row in beside.values())


def test_where_its_like_is_full_a_new_item_goes_elsewhere() -> None:
    vectors = points(8, 2)
    tree = build(vectors, numbers(8), depth=2, arity=3)
    assert tree.sizes(1).tolist() == [3, 3, 2]
    before = tree.leaf_item.clone()
    assert tree.sums is not None
    # in the centre of a node that has no leaf left
    tree.add(torch.tensor([100]), tree.sums[0][:1] / 3)
    assert tree.sizes(1).tolist() == [3, 3, 3]
    assert int(tree.leaves(torch.tensor([100]))) // 3 == 2
    assert torch.equal(tree.leaf_item[before > 0], before[before > 0])
    assert len(tree) == 9


def test_without_vectors_the_emptiest_child_takes_a_new_item() -> None:
    tree = built(7, 2, "random")
    assert tree.sizes(1).tolist() == [3, 2, 2]
    tree.add(torch.tensor([50, 51]))
    assert tree.sizes(1).tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match="1 items came for 0 empty leaves; build a tree of a larger arity"):
        tree.add(torch.tensor([52]))


@pytest.mark.parametrize(
    ("items", "message"),
    [([2], "item 2 is in the index already"), ([70, 70], "item 70 comes twice"), ([-1], "item number -1")],
)
def test_items_that_cannot_come(items: list[int], message: str) -> None:
    tree = built(50, 2)
    with pytest.raises(ValueError, match=message):
        tree.add(torch.tensor(items))
    assert len(tree) == 50


def test_items_that_cannot_go() -> None:
    tree = built(50, 2)
    with pytest.raises(ValueError, match="item 99 is not in the index"):
        tree.remove(torch.tensor([3, 99]))
    assert len(tree) == 50


def test_vectors_of_another_width_or_without_sense_are_refused() -> None:
    tree = built(50, 2)
    with pytest.raises(ValueError, match="vectors have width 9, the tree's 4"):
        tree.add(torch.tensor([60]), points(1, 9))
    with pytest.raises(ValueError, match="the vector of row 0 holds NaN"):
        tree.add(torch.tensor([60]), torch.full((1, 4), float("nan")))
    broken = points(50)
    broken[17, 2] = float("inf")
    with pytest.raises(ValueError, match="the vector of row 17 holds NaN or infinity"):
        build(broken, numbers(50), depth=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 2, "arity": 1}, "50 items, depth 2, arity 1: expected"),
        ({"depth": 2, "arity": 7}, "arity 7 and depth 2 have 49 leaves for 50 items"),
        ({"depth": 0}, "depth is 0"),
        ({"depth": 2, "cut": "random"}, "a random tree needs a generator"),
    ],
)
def test_settings_that_give_no_tree(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(points(50), numbers(50), **settings)  # type: ignore[arg-type]  # wrong on purpose


def test_leaves_must_be_as_many_as_the_shape_says() -> None:
    with pytest.raises(ValueError, match="8 leaves; depth 2 and arity 3 have 9"):
        Tree(depth=2, arity=3, leaf_item=torch.zeros(8, dtype=torch.int64))
