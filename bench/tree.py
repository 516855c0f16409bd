"""One decision of a policy that walks down a tree of up to a million items, and how long such a tree takes to build.

decision  a walk at batch 1 and at batch 1,024 over 10⁶ items at depth 3 (arity 100, layers of 32), beside the bare
          operations it cannot avoid on the same numbers of rows: per level the gather of the rows of one node a state
          and their product with its layer. The floor masks nothing, draws nothing and looks at no item. And beside the
          scores of a softmax over all the items, one product of the layer with a table of 32 numbers an item.
size      the same walk at batch 1,024 over 10⁴ … 10⁶ items: slope of log CPU seconds over log N with its 95 %
          interval over rounds; and of the products over all items.
build     trees of 10⁶ items × 64 numbers (500 clouds) by PCA, by balanced k-means and at random.

python bench/tree.py [--json] [--quick] [--rounds 5] [--threads 2] [--parts decision,size,build] [--seed 0]
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from _run import Taken, cpu_ratio, finish, in_turns, medians, parser, ratio

# isort: split
import torch
from scipy.stats import t as student
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM
from slatewise.methods.tpgr.tree_softmax import CHUNK, TreeSoftmax
from slatewise.nn.item_table import item_tables
from slatewise.retrieval.tree import Cut, arity_of, build

STATE, HIDDEN, DEPTH, VECTOR, BATCH = 64, 32, 3, 64, 1024
BAR_MS, BAR_PER_SECOND, BAR_EXPONENT, BAR_BUILD = 0.2, 60_000, 0.45, 30.0
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
CUTS: tuple[Cut, ...] = ("pca", "kmeans", "random")
PARTS = ("decision", "size", "build")


def main() -> None:
    options = parser(__doc__, "tree")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    begun = time.monotonic()
    most = 100_000 if given.quick else SIZES[-1]
    rounds = 2 if given.quick else given.rounds
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        if "decision" in given.parts:
            rows += decisions(most, rounds, given.seed)
        if "size" in given.parts:
            rows += by_size([size for size in SIZES if size <= most], rounds, given.seed)
        if "build" in given.parts:
            rows += building(most, given.seed)
    settings = {"items": most, "depth": DEPTH, "hidden": HIDDEN, "threads": given.threads, "rounds": rounds}
    finish(given, begun=begun, settings=settings, rows=rows, lines=[line(one) for one in rows])


def line(row: Mapping[str, Any]) -> str:
    """A row in words."""
    figures = (f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    return "  ".join(figures)


def head(items: int, seed: int) -> TreeSoftmax:
    """Node policies with fresh weights; where items stand does not matter for time."""
    generator = Generator().manual_seed(seed)
    return TreeSoftmax(
        STATE, items + FIRST_ITEM, depth=DEPTH, arity=arity_of(items, DEPTH), hidden=HIDDEN, generator=generator
    )


def states(batch: int, seed: int) -> Tensor:
    return torch.randn(batch, STATE, generator=Generator().manual_seed(seed))


def walk(tree: TreeSoftmax, state: Tensor, calls: int, generator: Generator) -> Callable[[], None]:
    """Work: state → item and log-probability, so many times."""

    def work() -> None:
        for _ in range(calls):
            leaf, _ = tree.draw(tree.layer(state), generator=generator)
            tree.leaf_item[leaf]

    return work


def products(tree: TreeSoftmax, batch: int, calls: int, seed: int) -> Callable[[], None]:
    """Work: per level, gather one node's rows a state, and multiply."""
    generator = Generator().manual_seed(seed)
    tables = [table.weight for table in item_tables(tree).values()]
    layer = torch.randn(batch, HIDDEN + 1, 1, generator=generator)
    drawn = [[torch.randint(len(table), (batch,), generator=generator) for table in tables] for _ in range(calls)]

    def work() -> None:
        for nodes in drawn:
            for level, (table, node) in enumerate(zip(tables, nodes, strict=True)):
                if level:
                    torch.bmm(table.index_select(0, node).view(batch, tree.arity, -1), layer)
                else:
                    _ = layer.squeeze(2) @ table.view(tree.arity, -1).T

    return work


def everything(items: int, batch: int, calls: int, seed: int) -> Callable[[], None]:
    """Work: the scores of a softmax over all items."""
    generator = Generator().manual_seed(seed)
    table = torch.randn(items, HIDDEN, generator=generator)
    layer = torch.randn(batch, HIDDEN, generator=generator)

    def work() -> None:
        for _ in range(calls):
            for at in range(0, batch, 64):
                _ = layer[at : at + 64] @ table.T

    return work


def decisions(items: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Batch 1 and batch 1,024."""
    tree, generator = head(items, seed), Generator().manual_seed(seed)
    rows: list[dict[str, Any]] = []
    for batch, calls in ((1, 500), (BATCH, 10)):
        works = {
            "walk": walk(tree, states(batch, seed), calls, generator),
            "floor: gathers and products": products(tree, batch, calls, seed),
            "scores of all items": everything(items, batch, max(1, calls // (100 if batch == 1 else 10)), seed),
        }
        found = in_turns(works, rounds)
        for name, taken in found.items():
            done = calls if name != "scores of all items" else max(1, calls // (100 if batch == 1 else 10))
            seconds = medians(taken).seconds / done
            rows.append(
                {
                    "name": name,
                    "items": items,
                    "batch": batch,
                    "ms": 1e3 * seconds,
                    "cpu_ms": 1e3 * medians(taken).cpu_seconds / done,
                    "decisions_per_second": batch / seconds,
                    "decisions_per_cpu_second": batch * done / medians(taken).cpu_seconds,
                    "walk_to_this": ratio(found["walk"], taken) * done / calls,
                    "walk_to_this_cpu": cpu_ratio(found["walk"], taken) * done / calls,
                }
            )
        bar = rows[-3]["ms"] <= BAR_MS if batch == 1 else rows[-3]["decisions_per_second"] >= BAR_PER_SECOND
        wanted = f"≤ {BAR_MS} ms" if batch == 1 else f"≥ {BAR_PER_SECOND:,} a second"
        rows.append({"name": f"one decision, batch {batch}, {wanted}", "holds": bar})
    return rows


def by_size(sizes: Sequence[int], rounds: int, seed: int) -> list[dict[str, Any]]:
    """Seconds over catalogs of many sizes, and the exponent of their growth."""
    generator = Generator().manual_seed(seed)
    state = states(BATCH, seed)
    works = {f"walk {size}": walk(head(size, seed), state, 10, generator) for size in sizes}
    works |= {f"scores {size}": everything(size, CHUNK // 16, 1, seed) for size in sizes}
    found = in_turns(works, max(3, rounds))
    rows: list[dict[str, Any]] = [
        {
            "name": name.split()[0] + " by size",
            "items": int(name.split()[1]),
            "ms": 1e3 * medians(taken).seconds / (10 if name.startswith("walk") else 1),
            "cpu_ms": 1e3 * medians(taken).cpu_seconds / (10 if name.startswith("walk") else 1),
        }
        for name, taken in found.items()
    ]
    for kind in ("walk", "scores"):
        value, low, high = exponent({size: found[f"{kind} {size}"] for size in sizes})
        row = {"name": f"growth exponent, {kind}", "exponent": value, "low": low, "high": high}
        rows.append(row | ({"holds": high <= BAR_EXPONENT, "bar": BAR_EXPONENT} if kind == "walk" else {}))
    return rows


def exponent(taken: Mapping[int, Sequence[Taken]]) -> tuple[float, float, float]:
    """Slope of log CPU seconds over log N: mean of the rounds' slopes, with the 95 % interval over rounds."""
    x = [math.log(size) for size in taken]
    middle = statistics.fmean(x)
    slopes = []
    for round_ in zip(*taken.values(), strict=True):
        y = [math.log(one.cpu_seconds) for one in round_]
        up = sum((a - middle) * (b - statistics.fmean(y)) for a, b in zip(x, y, strict=True))
        slopes.append(up / sum((a - middle) ** 2 for a in x))
    mean = statistics.fmean(slopes)
    half = float(student.ppf(0.975, len(slopes) - 1)) * statistics.stdev(slopes) / math.sqrt(len(slopes))
    return mean, mean - half, mean + half


def building(items: int, seed: int) -> list[dict[str, Any]]:
    """Trees of clouds of points, each cut once."""
    generator = Generator().manual_seed(seed)
    centres = torch.randn(500, VECTOR, generator=generator)
    vectors = centres[torch.randint(500, (items,), generator=generator)]
    vectors += 0.7 * torch.randn(items, VECTOR, generator=generator)
    numbers = torch.arange(FIRST_ITEM, items + FIRST_ITEM)
    rows = []
    for cut in CUTS:
        wall, cpu = time.perf_counter(), time.process_time()
        tree = build(vectors, numbers, depth=DEPTH, cut=cut, generator=generator)
        seconds = time.perf_counter() - wall
        sizes = [tree.sizes(level).view(-1, tree.arity) for level in range(1, DEPTH + 1)]
        uneven = max(int((size.amax(dim=1) - size.amin(dim=1)).max()) for size in sizes)
        rows.append(
            {
                "name": f"build, {cut}",
                "items": items,
                "seconds": seconds,
                "cpu_seconds": time.process_time() - cpu,
                "siblings_differ_by": uneven,
                "holds": seconds <= BAR_BUILD and uneven <= 1,
            }
        )
    return rows


if __name__ == "__main__":
    main()
