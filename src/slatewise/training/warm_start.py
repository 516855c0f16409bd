"""Training that starts from a finished run: its weights, for the items that both catalogs have; others start afresh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, Tensor

from slatewise import artifact
from slatewise.artifact import Artifact
from slatewise.errors import InputError, input_error
from slatewise.log import FIRST_ITEM, UNKNOWN, Catalog
from slatewise.nn.state_dict import under
from slatewise.protocols import KnowsUsers, Learner, MovesItems
from slatewise.training import checkpoint
from slatewise.wording import count_of

State = dict[str, Tensor]


def artifact_of(run: Path) -> Artifact | None:
    """The policy of a run; None where the run is not finished."""
    return artifact.load(run / "artifact", allow_modules=True) if (run / "artifact").is_dir() else None


def start_from(run: Path, learner: Learner, catalog: Catalog, *, method: str, generator: Generator) -> tuple[str, ...]:
    """Put the state of a finished run into a new learner: weights, target networks, moments of the optimiser.

    Rows of item tables are matched by the names of the items; a new item keeps the row that the learner was built with.
    The policy gets the weights that validation chose.

    Args:
        run: a run folder.
        learner: built for `catalog`.
        catalog: the items of the new log.
        method: name of the learner's method.
        generator: the learner's; left as it is.

    Returns:
        What to know of it, one sentence each.

    Raises:
        InputError: no finished run there, a run of another method, or weights of other shapes.
    """
    old = artifact_of(run)
    state = checkpoint.read_state(run)
    if old is None or state is None:
        raise input_error("no finished run here", file=run, advice="--from names a run folder of `slatewise train`.")
    if old.config.method.name != method:
        raise input_error(
            f"it is a run of {old.config.method.name}, not of {method}",
            file=run,
            advice="Start from a run of the same method.",
        )
    number = old.catalog.vocabulary.encode(catalog.vocabulary.names)
    is_new = number == UNKNOWN
    draws = generator.get_state()
    try:
        learner.load_state_dict(move_rows(state.learner, learner.state_dict(), number, old.catalog, learner))
        if not learner.single_pass:  # a counting policy follows from what its learner has counted
            best, fresh = (
                {f"policy.{name}": value for name, value in weights.items()}
                for weights in (state.best, learner.policy.state_dict())
            )
            learner.policy.load_state_dict(under("policy.", move_rows(best, fresh, number, old.catalog, learner)))
    except (InputError, ValueError, RuntimeError, KeyError) as error:
        raise input_error(
            f"its weights do not fit the new settings: {error}",
            file=run,
            advice="Take the sizes of encoder and method from its config.toml, or train anew without --from.",
        ) from error
    generator.set_state(draws)
    return _notes(run, old, learner, catalog, is_new)


def move_rows(state: State, fresh: State, number: Int[np.ndarray, "N"], old: Catalog, learner: Learner) -> State:
    """A state in the rows of the new catalog.

    Args:
        state: of the run.
        fresh: of the new learner; its rows are those of new items.
        number: for each item of the new catalog its number in the old one; UNKNOWN for a new item.
        old: the catalog of the run.
        learner: moves the entries that hold numbers of items itself.
    """
    if np.array_equal(number, np.arange(FIRST_ITEM, old.num_rows)):
        return state
    source = torch.from_numpy(np.concatenate([np.arange(FIRST_ITEM), number]))
    moved = learner.move_items(state, source) if isinstance(learner, MovesItems) else {}
    for name, value in state.items():
        if name in moved:
            continue
        template = fresh.get(name)
        if value.ndim and value.dtype in (torch.int32, torch.int64):
            raise InputError(f'"{name}" holds numbers of items, and the log has others now')
        if _counts_items(value, template, old.num_rows, len(source)):
            moved[name] = _rows(value, template, source)
        elif _counts_items(value, template, old.num_items, len(number)):
            real = source[FIRST_ITEM:] - FIRST_ITEM
            moved[name] = _rows(value, template, torch.where(real < 0, UNKNOWN, real + FIRST_ITEM), shift=FIRST_ITEM)
        else:
            moved[name] = value
        if template is not None and moved[name].shape != template.shape:
            raise InputError(f'"{name}" has the shape {tuple(value.shape)}, not {tuple(template.shape)}')
    return moved


def _counts_items(value: Tensor, template: Tensor | None, old_length: int, length: int) -> bool:
    """Whether a tensor has a row for each item: its length follows that of the catalog."""
    has_rows = value.ndim > 0 and value.dtype != torch.uint8 and len(value) == old_length
    return has_rows and (template is None or len(template) == length)


def _rows(value: Tensor, template: Tensor | None, source: Int[Tensor, "rows"], *, shift: int = 0) -> Tensor:
    """The rows of an item table in their new order; a new item gets the row of the template, without one zeros."""
    is_new = source == UNKNOWN
    is_new[:FIRST_ITEM] &= bool(shift)  # row 1 of a whole table is that of the unknown item itself
    rows = value[torch.where(is_new, 0, source - shift)]
    cold = torch.zeros_like(rows) if template is None else template.to(rows.dtype)
    return torch.where(is_new.view(-1, *[1] * (rows.ndim - 1)), cold, rows)


def _notes(run: Path, old: Artifact, learner: Learner, catalog: Catalog, is_new: np.ndarray) -> tuple[str, ...]:
    lost = old.catalog.num_items - int((~is_new).sum())
    notes = [f"Started from {run} (policy {old.version}), trained on {old.manifest.source.name}."]
    if is_new.any():
        start = "from their content" if catalog.content is not None else "with fresh vectors"
        notes.append(f"{int(is_new.sum()):,} of {count_of(catalog.num_items, 'item')} are new: they start {start}.")
    if lost:
        notes.append(
            f"{count_of(lost, 'item')} of that run not in the log any more: what it knew of them is left behind."
        )
    if learner.single_pass:
        counts = "uses add up, pairs of items count once for each user" if isinstance(learner, KnowsUsers) else "add up"
        notes.append(
            f"Counts: {counts}. Uses that the run has counted already count twice ([data] learn_from leaves them out)."
        )
    return tuple(notes)
