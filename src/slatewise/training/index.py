"""The index of a trained policy: fitted to its vectors, and tuned on states that the policy meets."""

from __future__ import annotations

import warnings

import torch

from slatewise.evaluation import states_at
from slatewise.log import FIRST_ITEM
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import ScoresByInnerProduct
from slatewise.retrieval.approximate import Approximate
from slatewise.retrieval.exact import Exact
from slatewise.retrieval.inner_products import extend_query, fold_bias
from slatewise.retrieval.recall import LowRecallWarning, RecallReport
from slatewise.training.run import Run
from slatewise.training.validation import sample_users


def give_index(run: Run) -> tuple[RecallReport | None, tuple[str, ...]]:
    """Give the policy of a run an index, if its [retrieval] asks for one at the size of its catalog.

    The index reads as many of its lists as it takes to find the wanted share of the best items, on states of the
    validation part (without one, on those after the training part).

    Returns:
        how many it finds, None where there is no index; and what to know of it, one sentence each.
    """
    policy, config, num_items = run.learner.policy, run.config.retrieval, run.dataset.catalog.num_items
    if not config.uses_index(num_items):
        return None, ()
    if not isinstance(policy, RankedPolicy) or not policy.takes_index:
        note = f"{run.config.method.name} finds its items without an index: [retrieval] does nothing here"
        return None, (note,) if config.index == "approximate" else ()
    assert isinstance(policy, ScoresByInnerProduct)
    policy.build_index()
    index = policy.retriever
    assert isinstance(index, Approximate)
    part = run.split.part("train" if run.split.valid.empty else "valid")
    sample = sample_users(part, config.states, seed=run.config.train.seed)
    users = sample.users()
    event = (sample.last if run.split.valid.empty else sample.first)[users]
    _, state = states_at(policy, part.interactions, users, event, max_history=run.config.evaluate.max_history)
    depth = min(run.config.serve.top_m, num_items)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", LowRecallWarning)  # said below
        vectors = fold_bias(policy.vectors(), policy.item_bias())
        query = extend_query(policy.query(state), width=vectors.shape[1])
        exact = Exact().fit(vectors, torch.arange(FIRST_ITEM, policy.num_rows))
        best = torch.cat([exact.search(block, depth)[0] for block in torch.split(query, 256)])
        report = index.tune(query, best, target=config.recall)
    note = (
        f"an index finds {report.recall:.1%} of the {depth} best items on {report.queries:,} states, reading "
        f"{index.probes} of {index.lists} lists"
    )
    if not report.holds:
        note += f'; {config.recall:.1%} cannot be reached ([retrieval] index = "exact" scores every item)'
    return report, (note,)
