"""What a policy showed and what came of it, as the decisions and outcomes that a service would have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.data.decisions_and_outcomes import Decision, Outcome, Record, encode
from slatewise.data.reading.recognition import ITEMS
from slatewise.errors import input_error
from slatewise.files import atomic_folder
from slatewise.log import FIRST_ITEM, Catalog
from slatewise.types import Observation, Step

EVENTS = "events.jsonl"


class Recorder:
    """Writes decisions with the propensities they were shown with, and an outcome for every use.

    Read again, the log has the same uses at the same times. Costs are not part of these records.
    """

    def __init__(self, stream: BinaryIO, catalog: Catalog, *, version: str, outcome: str = "use") -> None:
        """Write to a stream.

        Args:
            stream: where the lines go.
            catalog: names the items.
            version: names the policy.
            outcome: type of the outcomes.
        """
        self.decisions = 0
        self.outcomes = 0
        self._stream = stream
        self._names = ["", "", *catalog.vocabulary.names.to_pylist()]
        self._version = version
        self._outcome = outcome

    def add(
        self, observation: Observation, step: Step, counts: Bool[Tensor, " B"], *, episode: Int[Tensor, " B"]
    ) -> None:
        """Write the steps of some places.

        Args:
            seen: what was seen before.
            step: what happened.
            counts: which places to write.
            episode: number of the episode at each place; with the user's number it names the session.

        Raises:
            InputError: a step that such a log cannot hold: an empty slate, a reward of what was not used, or a use
                without a reward above 0.
        """
        rows = counts.nonzero().squeeze(1)
        slate, used, reward = (x[rows].numpy() for x in (step.slate, step.used, step.reward))
        _check_recordable(slate, used, reward)
        columns = zip(
            slate.tolist(),
            step.logp[rows].clamp(max=0.0).tolist(),
            (slate >= FIRST_ITEM).sum(axis=1).tolist(),
            used.tolist(),
            step.used_time[rows].tolist(),
            reward.tolist(),
            step.event_id[rows].tolist(),
            step.user[rows].tolist(),
            step.time[rows].tolist(),
            episode[rows].tolist(),
            observation.context[rows].tolist(),
            strict=True,
        )
        records: list[Record] = []
        for items, logp, size, uses, moments, earned, event, user, time, session, context in columns:
            name = str(event)
            records.append(
                Decision(
                    event_id=name,
                    timestamp=time,
                    user_id=str(user),
                    session_id=f"{user}-{session}",
                    slate=[self._names[item] for item in items[:size]],
                    logp=logp[:size],
                    policy_version=self._version,
                    explored=[chance < 0 for chance in logp[:size]],
                    context=context or None,
                )
            )
            outcomes = [
                self._use(name, position, item=items[position], moment=moments[position], reward=earned[position])
                for position in sorted((at for at in range(size) if uses[at]), key=moments.__getitem__)
            ]
            records += outcomes
            self.outcomes += len(outcomes)
        self.decisions += len(rows)
        self._stream.write(encode(records))

    def _use(self, event_id: str, position: int, *, item: int, moment: int, reward: float) -> Outcome:
        return Outcome(
            event_id=event_id,
            timestamp=moment,
            item_id=self._names[item],
            position=position,
            type=self._outcome,
            value=reward,
        )


def _check_recordable(
    slate: Int[np.ndarray, "P K"], used: Bool[np.ndarray, "P K"], reward: Float[np.ndarray, "P K"]
) -> None:
    """Refuse what a log of decisions and outcomes cannot hold."""
    if bool((slate[:, 0] < FIRST_ITEM).any()):
        raise input_error(
            "a user was shown nothing; a log of decisions cannot hold that", advice="Record another policy."
        )
    if bool(((reward != 0) & ~used).any()):
        raise input_error(
            "an item earned a reward although it was not used; a log of outcomes cannot hold that",
            advice="Record another environment.",
        )
    if bool((used & (reward <= 0)).any()):
        raise input_error(
            "an item was used and earned nothing; in a log of outcomes only what earns more than 0 is a use",
            advice="Record another environment.",
        )


@contextmanager
def recording(folder: Path, catalog: Catalog, *, version: str) -> Iterator[Recorder]:
    """A recorder whose folder appears whole at the end: events.jsonl and, beside it, items.parquet.

    Raises:
        InputError: the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise input_error(
            "it is not empty, and would be replaced", file=folder, advice="Name a new folder: --record DIR."
        )
    with atomic_folder(folder) as temporary:
        items = item_table(catalog)
        if items.width > 1:
            items.write_parquet(temporary / ITEMS)
        with (temporary / EVENTS).open("wb") as stream:
            yield Recorder(stream, catalog, version=version)


def item_table(catalog: Catalog) -> pl.DataFrame:
    """The items as `slatewise data import` reads them: item_id and, where known, text, labels and feature_… columns.

    Labels become features of their own there; so groups are written only where the features say nothing else.
    """
    columns: dict[str, pl.Series] = {"item_id": pl.Series(catalog.vocabulary.names.to_pylist(), dtype=pl.String)}
    text = list(catalog.text[FIRST_ITEM:])
    if any(text):
        columns["text"] = pl.Series(text, dtype=pl.String)
    group, features = np.asarray(catalog.group[FIRST_ITEM:]), np.asarray(catalog.features[FIRST_ITEM:])
    groups = len(catalog.group_names) - 1
    width = features.shape[1]
    if groups and (not width or (width == groups and bool((features == np.eye(groups)[group - 1]).all()))):
        columns["labels"] = pl.Series([catalog.group_names[number] or None for number in group], dtype=pl.String)
    else:
        digits = len(str(max(width - 1, 0)))
        columns |= {f"feature_{number:0{digits}d}": pl.Series(features[:, number]) for number in range(width)}
    return pl.DataFrame(columns)


__all__ = ["EVENTS", "ITEMS", "Recorder", "item_table", "recording"]
