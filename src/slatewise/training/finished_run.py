"""A finished run, opened again and evaluated on a part of its split; the result is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slatewise import artifact, evaluation
from slatewise.artifact import Artifact
from slatewise.config.sections import microseconds
from slatewise.data import prepared, splits
from slatewise.data.catalogs import with_items_of
from slatewise.data.prepared import Dataset
from slatewise.data.splits import PartName, Split
from slatewise.data.users import with_users_of
from slatewise.errors import InputError, input_error
from slatewise.evaluation import Evaluation
from slatewise.files import atomic_file
from slatewise.log import UNKNOWN, LogPart
from slatewise.protocols import Policy
from slatewise.training.new_items import score_items_of
from slatewise.training.seeds import check_single
from slatewise.wording import count_of


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run opened again: its policy, its data and how they were split."""

    folder: Path
    artifact: Artifact
    dataset: Dataset
    split: Split
    on_another_log: bool = False
    """Whether the data are not those that the run was trained on; `split.test` is then all that is evaluated."""


def open_run(folder: Path, *, data: Path | None = None, allow_modules: bool = False) -> FinishedRun:
    """Open a run folder.

    Args:
        folder: what `slatewise train` made.
        data: the prepared data set, where it is no longer at the path the run names (see `prepared.locate`).
        allow_modules: see `artifact.load`.

    Raises:
        InputError: no finished run there, a module that was not allowed, data that are missing or not the ones the run
            was trained on.
    """
    loaded = _load(folder, allow_modules=allow_modules)
    config = loaded.config.data
    if config is None:
        raise input_error("the table [data] is missing", file=loaded.path / "config.toml")
    dataset = prepared.load(data or prepared.locate(Path(config.path), folder))
    if dataset.fingerprint != loaded.manifest.source.fingerprint:
        raise input_error(
            "these are not the data that the run was trained on (the fingerprints differ)",
            file=dataset.path,
            advice="Name the right folder with --data; `evaluate` and `ope` take any log there as another one.",
        )
    dataset = with_users_of(dataset, loaded.users)
    split = splits.split_log(config, dataset.interactions, clock=dataset.clock)
    return FinishedRun(folder=folder, artifact=loaded, dataset=dataset, split=split)


def open_run_on(folder: Path, data: Path, *, since: str | None = None, allow_modules: bool = False) -> FinishedRun:
    """Open a run to evaluate it on a log: on its own as `open_run` does, else on all events of the log.

    Items are matched by name; what the policy does not know becomes the unknown item.

    Args:
        folder: what `slatewise train` made.
        data: a prepared data set.
        since: moment (ISO 8601) before which events are only history; for another log than the run's own.
        allow_modules: see `artifact.load`.

    Raises:
        InputError: no finished run there, a module that was not allowed, no data set, a moment that is none or leaves
            nothing to evaluate on, or a log of which the policy knows no item.
    """
    loaded, dataset = _load(folder, allow_modules=allow_modules), prepared.load(data)
    if dataset.fingerprint == loaded.manifest.source.fingerprint:
        if since is not None:
            raise input_error(
                "--since is for another log than the run's own", file=data, advice="Its own is split by [data]."
            )
        return open_run(folder, data=data, allow_modules=allow_modules)
    loaded, num_new = score_items_of(loaded, dataset.catalog)
    dataset = with_users_of(dataset, loaded.users)
    log, unmatched = with_items_of(dataset, loaded.catalog)
    if unmatched == dataset.catalog.num_items:
        raise input_error(f"the policy of {folder} knows none of its {count_of(unmatched, 'item')}", file=data)
    everything = LogPart.whole(log)
    try:
        part = everything if since is None else splits.since(everything, microseconds(since))
    except ValueError as error:
        raise input_error(f"--since {since}: {error}") from error
    if part.empty:
        raise input_error(f"nothing to evaluate on: no event since {since}", file=data)
    notes = [f"{dataset.name} is another log than the one that the run was trained on; all of it is evaluated."]
    if since is not None:
        notes = [f"{dataset.name} is another log than the one that the run was trained on: its events since {since}."]
    if num_new:
        notes.append(f"{num_new:,} of its {dataset.catalog.num_items:,} items are new to the policy: content alone.")
    if unmatched:
        notes.append(
            f"{unmatched:,} of its {count_of(dataset.catalog.num_items, 'item')} unknown to the policy; "
            f"evaluated rows that show one: {int((np.asarray(log.item)[part.rows()] == UNKNOWN).sum()):,}."
        )
    history = replace(everything, last=part.first)
    split = Split(train=history, valid=replace(part, last=part.first), test=part, notes=tuple(notes))
    there = replace(dataset, interactions=log, catalog=loaded.catalog)
    return FinishedRun(folder=folder, artifact=loaded, dataset=there, split=split, on_another_log=True)


def _load(folder: Path, *, allow_modules: bool) -> Artifact:
    check_single(folder)
    if not (folder / "artifact" / "manifest.json").is_file():
        raise input_error(
            "no finished run here",
            file=folder,
            advice="`slatewise train` makes one; --resume finishes an interrupted one.",
        )
    return artifact.load(folder / "artifact", allow_modules=allow_modules)


def evaluate_run(
    run: FinishedRun,
    part: PartName,
    *,
    behaviour: Policy | None,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a run on a part and store the result in its evaluation.json.

    Args:
        run: the opened run.
        part: valid or test. Open the test part once, with settings that validation chose.
        behaviour: stands for the logging policy; None uses the propensities of the log, and estimates nothing
            off-policy where it has none of single draws.
        seed: of the draws of a policy that draws.
        on_batch: told the number of users done.

    Raises:
        InputError: nothing is held out in that part.
    """
    held_out = run.split.part(part)
    if held_out.empty:
        raise InputError(f'{run.folder}: the split holds nothing out in its part "{part}". Another [data] split may.')
    result = evaluation.evaluate(
        run.artifact.policy,
        run.dataset,
        held_out,
        run.artifact.config.evaluate,
        trained_on=run.split.part("train"),
        behaviour=behaviour,
        seed=seed,
        on_batch=on_batch,
    )
    path = run.folder / "evaluation.json"
    evaluations: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if evaluations.get("policy") != run.artifact.version:
        evaluations = {"policy": run.artifact.version, "method": run.artifact.config.method.to_table(), "parts": {}}
    if run.on_another_log:
        other = {"data": run.dataset.name, "notes": list(run.split.notes), **result.to_json()}
        evaluations.setdefault("other_logs", {})[run.dataset.fingerprint] = other
    else:
        # an evaluation without an estimate keeps that of an earlier one: the policy and the log are the same
        earlier = evaluations["parts"].get(part, {})
        estimates = {name: earlier.get(name) for name in ("off_policy", "behaviour")}
        value = result.to_json()
        evaluations["parts"][part] = value | {name: value.get(name) or estimates[name] for name in estimates}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(evaluations, indent=2), encoding="utf-8")
    return result
