"""Items that a policy was not trained on: content gives them vectors, in its own training and long after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int
from torch import Generator, nn

from slatewise.artifact import Artifact
from slatewise.config import find
from slatewise.config.sections import ItemsConfig
from slatewise.data.item_columns import ItemColumns, join_columns
from slatewise.data.merging import merge_catalogs
from slatewise.errors import InputError
from slatewise.item_vectors.content import kinds_of, with_content, with_content_of
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.nn.item_table import ContentMap
from slatewise.nn.state_dict import under
from slatewise.protocols import KeepsIndex, Policy, SearchesPositions
from slatewise.training.warm_start import move_rows


def catalog_of_run(
    catalog: Catalog, settings: ItemsConfig, part: LogPart, *, old: Artifact | None, where: str
) -> tuple[Catalog, tuple[str, ...]]:
    """The catalog with the content that a run asks for, and what to know of it.

    Args:
        catalog: of the data set.
        settings: [items].
        part: what is trained on.
        old: of the run whose weights training starts from; its encoding of content goes with its weights.
        where: name of the table, for messages: "run.toml [items]".

    Raises:
        InputError: content that the catalog does not have, or another one than that of the run to start from.
    """
    shown = np.asarray(part.interactions.item[part.rows()])
    has_events = np.bincount(shown, minlength=catalog.num_rows) > 0
    try:
        if old is not None and old.catalog.content is not None:
            content = kinds_of(old.catalog.content)
            if set(content) != set(settings.content):
                raise ValueError(
                    f"items.content is {list(settings.content)}, that of {old.path.parent} is {list(content)}"
                )
            catalog = with_content_of(catalog, old.catalog, has_events=has_events, drop=settings.drop)
        else:
            catalog = with_content(catalog, settings, has_events=has_events)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error
    return catalog, _notes(catalog)


def _notes(catalog: Catalog) -> tuple[str, ...]:
    """How many items have nothing but their content, or not even that."""
    if catalog.content is None:
        return ()
    cold = ~catalog.content.has_events[FIRST_ITEM:]
    # the last number is the same for every item
    empty = cold & ~catalog.content.values[FIRST_ITEM:, :-1].any(axis=1)
    notes = []
    if cold.any():
        notes.append(f"{int(cold.sum()):,} of {catalog.num_items:,} items have no event to learn from: content alone.")
    if empty.any():
        notes.append(f"{int(empty.sum()):,} of them have no content either: they share one vector.")
    return tuple(notes)


def score_items_of(loaded: Artifact, catalog: Catalog) -> tuple[Artifact, int]:
    """A policy that scores items of another catalog as well, by their content, and how many these are.

    Its own items keep their numbers and vectors. A policy whose scores read no content stays as it is.

    Raises:
        InputError: features of the new items that cannot be compared with those of the policy's.
    """
    known_items = loaded.catalog
    if known_items.content is None or not _scores_by_content(loaded.policy):
        return loaded, 0
    merged = merge_catalogs(known_items, catalog)
    if merged.num_items == known_items.num_items:
        return loaded, 0
    columns, _ = join_columns(merged.vocabulary.names, ItemColumns.of(known_items), ItemColumns.of(catalog))
    try:
        merged = with_content_of(
            replace(merged, columns=columns), known_items, has_events=np.zeros(merged.num_rows, np.bool_)
        )
    except ValueError as error:
        raise InputError(f"{loaded.path}: {error}.") from error
    number = known_items.vocabulary.encode(merged.vocabulary.names)
    try:
        policy = _policy_with_rows(loaded, merged, number)
    except (InputError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{loaded.path}: {loaded.config.method.name} cannot take in new items without training: {error}"
        ) from error
    if isinstance(policy, SearchesPositions):
        policy.refresh_positions()
    _take_index(policy, loaded, merged.num_items)
    return replace(loaded, policy=policy, catalog=merged), merged.num_items - known_items.num_items


def _take_index(policy: Policy, loaded: Artifact, num_items: int) -> None:
    """The index that training tuned, with the new items added; one of its own where the smaller catalog had none."""
    if not isinstance(policy, KeepsIndex):
        return
    arrays = loaded.policy.index_arrays() if isinstance(loaded.policy, KeepsIndex) else {}
    if arrays:
        policy.load_index(arrays)
    elif loaded.config.retrieval.uses_index(num_items):
        policy.build_index()


def _scores_by_content(policy: Policy) -> bool:
    """Whether anything but the encoder reads content."""
    parts = policy.named_modules() if isinstance(policy, nn.Module) else ()
    return any(isinstance(part, ContentMap) and not name.startswith("encoder.") for name, part in parts)


def _policy_with_rows(loaded: Artifact, catalog: Catalog, number: Int[np.ndarray, "N"]) -> Policy:
    """The policy over a larger catalog; a learner is built for it, which moves what holds numbers of items."""
    config, generator = loaded.config, Generator().manual_seed(0)
    method, encoder = find("methods", config.method.name), find("encoders", config.encoder.name)
    built = encoder.Encoder(config.encoder.settings, catalog, generator=generator)
    learner = method.Learner(config.method.settings, built, catalog, generator=generator)
    weights, fresh = (
        {f"policy.{name}": value for name, value in policy.state_dict().items()}
        for policy in (loaded.policy, learner.policy)
    )
    learner.policy.load_state_dict(under("policy.", move_rows(weights, fresh, number, loaded.catalog, learner)))
    if isinstance(learner.policy, nn.Module):
        learner.policy.eval()
    return learner.policy
