"""A finished run, opened again and evaluated on a part of its split; the result is kept in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slatewise import artifact, evaluation
from slatewise.artifact import Artifact
from slatewise.data import prepared, splits
from slatewise.data.prepared import Dataset
from slatewise.data.splits import PartName, Split
from slatewise.errors import InputError, input_error
from slatewise.evaluation import Evaluation
from slatewise.files import atomic_file
from slatewise.protocols import Policy


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run opened again: its policy, its data and how they were split."""

    folder: Path
    artifact: Artifact
    dataset: Dataset
    split: Split


def open_run(folder: Path, *, data: Path | None = None, allow_modules: bool = False) -> FinishedRun:
    """Open a run folder.

    Args:
        folder: what `slatewise train` made.
        data: the prepared data set, where it is no longer at the path the run names.
        allow_modules: see `artifact.load`.

    Raises:
        InputError: no finished run there, a module that was not allowed, data that are missing or not the ones the run
            was trained on.
    """
    if not (folder / "artifact" / "manifest.json").is_file():
        raise input_error(
            "no finished run here",
            file=folder,
            advice="`slatewise train` makes one; --resume finishes an interrupted one.",
        )
    loaded = artifact.load(folder / "artifact", allow_modules=allow_modules)
    config = loaded.config.data
    if config is None:
        raise input_error("the table [data] is missing", file=loaded.path / "config.toml")
    dataset = prepared.load(data or Path(config.path))
    if dataset.fingerprint != loaded.manifest.source.fingerprint:
        raise input_error(
            "these are not the data that the run was trained on (the fingerprints differ)",
            file=dataset.path,
            advice="Name the right folder with --data, or train anew.",
        )
    split = splits.split_log(config, dataset.interactions, clock=dataset.clock)
    return FinishedRun(folder=folder, artifact=loaded, dataset=dataset, split=split)


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
    evaluations["parts"][part] = result.to_json()
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(evaluations, indent=2), encoding="utf-8")
    return result
