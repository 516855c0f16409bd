"""REINFORCE over a million items: a training step, its cost by catalog, and slates drawn from an approximate index.

step      one update (64 sessions of 32 positions after 50 of burn-in, CFN states of width 64, policy and behaviour
          softmax over 2,048 shared negatives, row-wise Adagrad on three tables), beside the bare tensor operations
          it cannot avoid, on the same numbers of rows: all matrix products forward and backward, the gathers, and
          reading and writing back the rows that change. The floor normalises nothing and learns nothing.
size      the same step over 10⁴ … 10⁶ items, in turns.
dense     the same update with the full softmax, dense gradients and Adam on whole tables, in plain torch.
slates    20 items drawn with exploration (100 candidates, 1 kept), beside the search alone: same index, same
          probes, same queries. The index is fitted to vectors that the steps above have trained.
bias      distance of the sampled gradient's mean from the exact gradient, by sampler and number of negatives.

python bench/reinforce.py [--json] [--quick] [--rounds 5] [--threads 2] [--parts step,size] [--seed 0]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from _run import cpu_ratio, finish, in_turns, medians, parser, ratio
from _sessions import catalog, sessions

# isort: split
import faiss
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.encoders import cfn
from slatewise.log import FIRST_ITEM
from slatewise.methods import reinforce
from slatewise.nn.allocator import keep_freed_memory
from slatewise.nn.negatives import NegativeSampler, Sampler
from slatewise.nn.softmax import SoftmaxHead
from slatewise.ops.negatives import Negatives, whole_catalog
from slatewise.ops.products import product
from slatewise.retrieval.approximate import Approximate
from slatewise.retrieval.exact import Exact
from slatewise.retrieval.inner_products import extend_query, fold_bias
from slatewise.types import Exploration, SlateRequest, Trajectories

USERS, BURN_IN, STEPS, WIDTH, NEGATIVES = 64, 50, 32, 64, 2048
POSITIONS = USERS * STEPS
TABLE_BYTES = 4 * WIDTH
SLATE, EXPLORE = 20, Exploration(top_m=100, keep=1, temperature=1.0)
PARTS = ("step", "size", "dense", "slates", "bias")


def main() -> None:
    options = parser(__doc__, "reinforce")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    options.add_argument("--resident", type=int, help=argparse_hidden())
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    if given.resident:
        print(json.dumps(resident(given.resident, given.seed)))
        return
    begun = time.monotonic()
    keep_freed_memory()
    items = 100_000 if given.quick else 1_000_000
    rounds = 2 if given.quick else given.rounds
    rows: list[dict[str, Any]] = []
    learners = {items: learner(items, given.seed)}
    if "step" in given.parts:
        rows += step(learners[items], items, rounds, given)
    if "size" in given.parts:
        sizes = [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if size <= items]
        rows += by_size({size: learners.get(size) or learner(size, given.seed) for size in sizes}, rounds)
    if "dense" in given.parts:
        for size in (10_000,) if given.quick else (10_000, 100_000):
            rows += dense(size, 1 if given.quick else max(2, rounds // 2), given.seed)
    if "slates" in given.parts:
        rows += slates(learners[items], items, 100 if given.quick else 1500, rounds, given.seed)
    if "bias" in given.parts:
        rows += bias(5_000 if given.quick else 20_000, 4 if given.quick else 24, given.seed)
    settings = {
        "items": items,
        "positions": POSITIONS,
        "burn_in": USERS * BURN_IN,
        "width": WIDTH,
        "negatives": NEGATIVES,
        "threads": given.threads,
        "rounds": rounds,
        "parts": given.parts,
    }
    finish(given, begun=begun, settings=settings, rows=rows, lines=[line(one) for one in rows])


def argparse_hidden() -> str:
    """The flag of the process that only measures its own memory."""
    return "internal: measure the memory of steps over so many items, and nothing else"


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    figures = (f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    return "  ".join(figures)


def learner(num_items: int, seed: int, **settings: Any) -> reinforce.Learner:
    """A learner with fresh weights; sampled softmax whatever the catalog's size."""
    generator = Generator().manual_seed(seed)
    items = catalog(num_items)
    encoder = cfn.Encoder(
        cfn.Config(width=WIDTH, item_width=WIDTH, reward_edges=(0.5,), context_width=0), items, generator=generator
    )
    defaults: dict[str, Any] = {"negatives": reinforce.NegativesConfig(count=NEGATIVES), "slate_size": SLATE}
    config = reinforce.Config(**(defaults | settings))
    return reinforce.Learner(config, encoder, items, generator=generator)


def batches(num_items: int, count: int, seed: int) -> list[Trajectories]:
    return [
        sessions(num_items, users=USERS, burn_in=BURN_IN, steps=STEPS, seed=seed * 1_000_003 + n) for n in range(count)
    ]


def updates(who: reinforce.Learner, given: Iterable[Trajectories]) -> Callable[[], None]:
    """Work: one update with each batch."""
    whole = list(given)

    def work() -> None:
        for batch in whole:
            who.update(batch)

    return work


def step(who: reinforce.Learner, items: int, rounds: int, given: Any) -> list[dict[str, Any]]:
    """The update beside its floor, and what it keeps in memory."""
    some = batches(items, 10, given.seed)
    tables = [table.weight.detach() for name, table in who.tables.tables.items() if name.endswith("item")]
    works = {
        "step": updates(who, some),
        "floor, torch's products": floor(tables, some, lambda x, weight: x @ weight.t()),
        "floor, fastest products": floor(tables, some, product),
    }
    found = in_turns(works, rounds)
    rows = [
        {
            "name": name,
            "items": items,
            "ms": 1e3 * medians(taken).seconds / len(some),
            "cpu_ms": 1e3 * medians(taken).cpu_seconds / len(some),
            "positions_per_second": POSITIONS * len(some) / medians(taken).seconds,
            "positions_per_cpu_second": POSITIONS * len(some) / medians(taken).cpu_seconds,
            "step_to_this": ratio(found["step"], taken),
            "step_to_this_cpu": cpu_ratio(found["step"], taken),
        }
        for name, taken in found.items()
    ]
    command = [sys.executable, __file__, "--resident", str(items), "--threads", str(given.threads)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return [*rows, {"name": "memory", "items": items, **json.loads(answer.stdout)}]


def floor(
    tables: list[Tensor], some: list[Trajectories], times: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[], None]:
    """Work: the products, gathers and row updates of one update per batch; `times(x, weight)` is x weightᵀ.

    Per batch, with P = 2,048 positions, M = 2,048 negatives, L = 64 × 82 steps read, D = E = 64:

        heads      2 × (P,D)(D,M) scores; 1 × (P,M)(M,D) gradient of the states (the behaviour head has none);
                   2 × (M,P)(P,D) gradient of the negatives
        inputs     (L,E)(E,3D) forward, (L,3D)(3D,E) and (3D,L)(L,E) backward
        cell       82 × (64,D)(D,2D) forward, 82 × (64,2D)(2D,D) and (2D,L)(L,D) backward
        rows       gather L of U, P + M of V and of B; read, and write back, as many of each
    """
    generator = Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    read = USERS * (BURN_IN + STEPS)
    state, scores, grad = draw(POSITIONS, WIDTH), draw(POSITIONS, NEGATIVES).softmax(dim=1), draw(POSITIONS, WIDTH)
    negative = draw(NEGATIVES, WIDTH)
    weight, recurrent = draw(3 * WIDTH, WIDTH), draw(2 * WIDTH, WIDTH)
    inputs, pulled = draw(read, WIDTH), draw(read, 3 * WIDTH)
    before, gates = draw(USERS, WIDTH), draw(USERS, 2 * WIDTH)

    def rows(table: Tensor, items: Tensor) -> None:
        table.index_select(0, items)
        # the values that stand there: the learner beside must not be changed
        table.index_copy_(0, items, table.index_select(0, items))

    @torch.no_grad()
    def work() -> None:
        for batch in some:
            shown = batch.slate[batch.learn].flatten()
            distinct = torch.randint(FIRST_ITEM, len(tables[0]), (NEGATIVES,), generator=generator)
            for to_states in (True, False):
                times(state, negative)
                if to_states:
                    times(scores, negative.t())
                _ = grad.t() @ scores
            times(inputs, weight)
            times(pulled, weight.t())
            _ = pulled.t() @ inputs
            for _ in range(BURN_IN + STEPS):
                _ = before @ recurrent.t()
                _ = gates @ recurrent
            _ = pulled[:, : 2 * WIDTH].t() @ inputs
            rows(tables[0], batch.slate.flatten())
            for table in tables[1:]:
                rows(table, torch.cat([shown, distinct]))

    return work


def resident(items: int, seed: int) -> dict[str, float]:
    """Memory of this process at its largest, building the learner and doing ten steps."""
    alone = peak()
    who = learner(items, seed)
    updates(who, batches(items, 10, seed))()
    tables = 2 * (items + FIRST_ITEM) * TABLE_BYTES
    return {"resident_mb": peak() / 1e6, "of_it_imports_mb": alone / 1e6, "to_two_tables": peak() / tables}


def peak() -> float:
    """Bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024.0 * int(text.split()[1]) for text in status if text.startswith("VmHWM"))


def by_size(learners: dict[int, reinforce.Learner], rounds: int) -> list[dict[str, Any]]:
    """The same step over catalogs of many sizes."""
    works = {str(size): updates(who, batches(size, 10, seed=1)) for size, who in learners.items()}
    found = in_turns(works, rounds)
    smallest = found[str(min(learners))]
    return [
        {
            "name": "step by size",
            "items": int(name),
            "ms": 100 * medians(taken).seconds,
            "cpu_ms": 100 * medians(taken).cpu_seconds,
            "to_smallest": ratio(taken, smallest),
            "to_smallest_cpu": cpu_ratio(taken, smallest),
        }
        for name, taken in found.items()
    ]


class WholeMatrix(SoftmaxHead):
    """The softmax as it is written down: a (P, N) matrix of scores, normalised and recorded by torch."""

    def log_prob(
        self, state: Float[Tensor, "P D"], item: Int[Tensor, " P"], negatives: Negatives | None = None
    ) -> Float[Tensor, " P"]:
        """Log π of one item per state."""
        del negatives
        scores = self.scores(state, None)[:, FIRST_ITEM:]
        return torch.log_softmax(scores, dim=1).gather(1, item.unsqueeze(1) - FIRST_ITEM)[:, 0]


def dense(items: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """The same update with whole matrices of scores, dense gradients and dense Adam; and with our exact softmax."""
    whole = learner(items, seed, negatives=reinforce.NegativesConfig(count=0))
    peers = learner(items, seed, negatives=reinforce.NegativesConfig(count=0))
    for head in peers.policy.modules():
        if isinstance(head, SoftmaxHead):
            head.__class__ = WholeMatrix
    some = batches(items, 1, seed)
    works = {
        "sampled": updates(learner(items, seed), batches(items, 10, seed)),
        "dense, plain torch": updates(peers, some),
        "exact, in chunks": updates(whole, some),
    }
    found = in_turns(works, rounds)
    return [
        {
            "name": name,
            "items": items,
            "ms": 1e3 * medians(taken).seconds / (10 if name == "sampled" else 1),
            "to_sampled": ratio(taken, found["sampled"]) * (1 if name == "sampled" else 10),
            "to_sampled_cpu": cpu_ratio(taken, found["sampled"]) * (1 if name == "sampled" else 10),
        }
        for name, taken in found.items()
    ]


def slates(who: reinforce.Learner, items: int, steps: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Train, fit the index, tune its probes, and draw slates beside the bare search."""
    for number in range(steps):
        who.update(sessions(items, users=USERS, burn_in=BURN_IN, steps=STEPS, seed=9_000_000 + seed * steps + number))
    policy = who.policy
    index = Approximate()
    begun = time.perf_counter()
    with torch.inference_mode():
        policy.retrieve_with(index)
    fitted = time.perf_counter() - begun
    with torch.inference_mode():
        held_out = sessions(items, users=512, burn_in=BURN_IN, steps=STEPS, seed=seed + 77)
        state = policy.encoder(held_out)[:, BURN_IN:].flatten(0, 1)
        state = state[torch.randperm(len(state), generator=Generator().manual_seed(seed))[:1024]]
        vectors = fold_bias(policy.vectors(), policy.item_bias())
        exact = Exact().fit(vectors, torch.arange(FIRST_ITEM, items + FIRST_ITEM))
        queries = extend_query(policy.query(state), width=vectors.shape[1])
        report = index.tune(queries[:512], exact.search(queries[:512], EXPLORE.top_m)[0])
        proof = index.check(queries[512:], exact.search(queries[512:], EXPLORE.top_m)[0])
        norm = policy.head.item.weight[FIRST_ITEM:].norm(dim=1)
    del exact
    rows: list[dict[str, Any]] = [
        {
            "name": "index",
            "items": items,
            "trained_steps": steps,
            "recall@100": proof.recall,
            "worst_tenth": proof.worst_tenth,
            "recall_tuned_on": report.recall,
            "probes": index.probes,
            "flat": index.flat,
            "fit_seconds": fitted,
            "norms_05_95": [round(float(norm.quantile(q)), 3) for q in (0.05, 0.95)] if items < 1 << 24 else None,
        }
    ]
    generator = Generator().manual_seed(seed)
    for size, calls in ((64, 16), (1, 256)):
        parts = [state[at : at + size] for at in range(0, size * calls, size)]
        searched = [extend_query(policy.query(part), width=vectors.shape[1]) for part in parts]

        @torch.inference_mode()
        def draw(parts: list[Tensor] = parts) -> None:
            for part in parts:
                policy.recommend(part, SlateRequest(k=SLATE, exploration=EXPLORE), generator=generator)

        def search(searched: list[Tensor] = searched) -> None:
            for query in searched:
                index.search(query, EXPLORE.top_m)

        found = in_turns({"slate": draw, "search": search}, 3 * rounds)
        rows.append(
            {
                "name": "slate beside search",
                "batch": size,
                "slate_ms": 1e3 * medians(found["slate"]).seconds / calls,
                "search_ms": 1e3 * medians(found["search"]).seconds / calls,
                "ratio": ratio(found["slate"], found["search"]),
                "ratio_cpu": cpu_ratio(found["slate"], found["search"]),
            }
        )
    return rows


def bias(items: int, draws: int, seed: int) -> list[dict[str, Any]]:
    """Means over draws of negatives, of a model trained for a while, beside the exact gradient by the states."""
    who = learner(items, seed, negatives=reinforce.NegativesConfig(count=1024))
    for number in range(150):
        who.update(sessions(items, users=USERS, burn_in=BURN_IN, steps=STEPS, seed=5_000_000 + number))
    batch = sessions(items, users=USERS, burn_in=BURN_IN, steps=STEPS, seed=seed + 5)
    shown = batch.slate[batch.learn].flatten()
    with torch.no_grad():
        state = who.policy.encoder(batch)[:, :-1][batch.learn]
    head = who.policy.head

    def gradient(negatives: Negatives) -> tuple[Tensor, Tensor]:
        leaf = state.clone().requires_grad_()
        log_pi = head.log_prob(leaf, shown, negatives)
        (found,) = torch.autograd.grad(log_pi.sum(), leaf)
        who.tables.forget()
        return log_pi.detach(), found

    log_pi, exact = gradient(whole_catalog(first=FIRST_ITEM, last=items + 1))
    rows = []
    kinds: tuple[Sampler, ...] = ("uniform", "log_uniform", "popularity", "in_batch")
    for kind in kinds:
        for count in (POSITIONS,) if kind == "in_batch" else (64, 256, 1024, 2048, 4096, 8192):
            sampler, generator = NegativeSampler(kind, count, items + FIRST_ITEM), Generator().manual_seed(seed)
            for number in range(64):  # so that it knows what the log shows
                seen = sessions(items, users=USERS, burn_in=0, steps=BURN_IN + STEPS, seed=5_000_000 + number)
                sampler.draw(seen.slate.flatten(), generator)
            halves, single, error = [torch.zeros_like(exact), torch.zeros_like(exact)], 0.0, 0.0
            for number in range(draws):
                pool = shown
                if kind == "in_batch":
                    other = sessions(items, users=USERS, burn_in=BURN_IN, steps=STEPS, seed=6_000_000 + number)
                    pool = other.slate[other.learn].flatten()
                estimate, found = gradient(sampler.draw(pool, generator))
                halves[number % 2] += (found - exact) * 2 / draws
                single += float((found - exact).norm() / exact.norm()) / draws
                error += float((estimate - log_pi).abs().mean()) / draws
            # the product of two independent means has no share of the noise
            squared = float((halves[0] * halves[1]).sum()) / float(exact.square().sum())
            rows.append(
                {
                    "name": "gradient bias",
                    "sampler": kind,
                    "negatives": count,
                    "items": items,
                    "bias": max(0.0, squared) ** 0.5,
                    "one_draw": single,
                    "log_pi_error": error,
                }
            )
    return rows


if __name__ == "__main__":
    main()
