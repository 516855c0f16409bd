"""Settings → data, split, learner: a run laid out, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Generator

from slatewise import evaluation
from slatewise.artifact import Artifact
from slatewise.config import find
from slatewise.config.run import RunConfig
from slatewise.data import prepared, splits
from slatewise.data.preparation import hash_names
from slatewise.data.prepared import Dataset
from slatewise.data.splits import Split
from slatewise.data.users import with_users_of
from slatewise.errors import InputError, input_error
from slatewise.log import Catalog, LogPart
from slatewise.protocols import ChecksLog, KnowsUsers, Learner, Prepares, SelfEvaluating
from slatewise.training.new_items import catalog_of_run
from slatewise.training.warm_start import artifact_of, start_from


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run laid out: everything that training and evaluation need."""

    folder: Path
    config: RunConfig
    """Resolved, with the fingerprint of the data."""
    dataset: Dataset
    split: Split
    learner: Learner = field(repr=False)
    select: str
    """Validation metric that chooses the weights to keep."""
    notes: tuple[str, ...] = ()
    """What to know of the split, and of the run that this one starts from."""


def lay_out(config: RunConfig, folder: Path) -> Run:
    """Settings → data, split, learner; nothing is written.

    Raises:
        InputError: a setting, file or combination that cannot be used.
    """
    start = None if config.train.start_from is None else Path(config.train.start_from)
    old = None if start is None else artifact_of(start)
    dataset, split = _open_data(config, old)
    part = split.part("train")
    config = config.resolve(part)  # first: a method may refuse the log as a whole
    where = config.origin.of_table("items")
    catalog, content_notes = catalog_of_run(dataset.catalog, config.items, part, old=old, where=where)
    dataset = replace(dataset, catalog=catalog)
    generator = Generator().manual_seed(config.train.seed)
    learner = _build_learner(config, dataset.catalog, generator)
    if isinstance(learner, KnowsUsers):
        learner.name_users(torch.from_numpy(hash_names(dataset.users.names.to_pylist())))
    names = learner.metric_names if isinstance(learner, SelfEvaluating) else evaluation.metric_names(config.evaluate)
    select = config.train.select or _default_metric(config, learner)
    validates = not split.valid.empty
    if validates and select not in names:
        raise _unusable_metric(config, f'"{select}" is not a validation metric', f"One of: {', '.join(names)}.")
    _prepare(learner, part, config)
    if validates and not isinstance(learner, SelfEvaluating):
        _check_users(config, select, split.valid)
    notes = split.notes + content_notes
    if start is not None:
        notes += start_from(start, learner, catalog, method=config.method.name, generator=generator)
    data = config.data
    if data is not None:
        name = data.split or splits.default_split(clock=dataset.clock)
        data = replace(data, split=name, fingerprint=dataset.fingerprint)
    config = replace(config, data=data, train=replace(config.train, select=select))
    return Run(folder=folder, config=config, dataset=dataset, split=split, learner=learner, select=select, notes=notes)


def _open_data(config: RunConfig, old: Artifact | None) -> tuple[Dataset, Split]:
    """The data set that [data] names, with the features of users that states read, and its split."""
    data, longest, origin = config.data, max(config.evaluate.k), config.origin
    if data is None:
        raise input_error("the table [data] is missing", file=origin.file)
    dataset = prepared.load(Path(data.path))
    if data.fingerprint not in (None, dataset.fingerprint):
        raise input_error(
            "these are other data than [data] fingerprint names",
            file=dataset.path,
            advice="Name the right folder, or take the fingerprint out of the configuration.",
        )
    if old is not None:
        dataset = with_users_of(dataset, old.users)
    elif data.user_features is False:
        dataset = with_users_of(dataset, None)
    elif data.user_features and dataset.user_table is None:
        raise input_error(
            f"user_features = true, but {dataset.path} has no features of users",
            file=origin.of_key("data", "user_features"),
            advice="Import them: `slatewise data import LOG --users FILE`.",
        )
    try:
        split = splits.split_log(data, dataset.interactions, clock=dataset.clock)
    except ValueError as error:
        raise InputError(f"{origin.of_table('data')}: {error}.") from error
    num_items = dataset.catalog.num_items
    if longest > num_items:
        raise input_error(
            f"k = {longest} is larger than the catalog of {num_items} items",
            file=origin.of_key("evaluate", "k"),
            advice=f"Choose shorter lists: --set evaluate.k=[{min(5, num_items)}].",
        )
    return dataset, split


def _build_learner(config: RunConfig, catalog: Catalog, generator: Generator) -> Learner:
    """A learner with fresh weights."""
    method, encoder = find("methods", config.method.name), find("encoders", config.encoder.name)
    table = "encoder"
    try:
        built = encoder.Encoder(config.encoder.settings, catalog, generator=generator)
        table = "method"
        return method.Learner(config.method.settings, built, catalog, generator=generator)
    except ValueError as error:
        raise InputError(f"{config.origin.of_table(table)}: {error}.") from error


def _default_metric(config: RunConfig, learner: Learner) -> str:
    """The metric that selects where [train] names none."""
    return learner.metric_names[0] if isinstance(learner, SelfEvaluating) else f"ndcg@{config.evaluate.k[0]}"


def _check_users(config: RunConfig, select: str, part: LogPart) -> None:
    """Refuse a selecting metric that has no value on the validation part, whatever is recommended."""
    summary = evaluation.relevance(part, config.evaluate).summary(config.evaluate)
    if evaluation.users_of(select, summary) == 0:
        problem = f'"{select}" has no value on the validation part: {summary.nothing_to_find()}'
        raise _unusable_metric(config, problem, "Choose another metric, or a [data] split that holds more out.")


def _unusable_metric(config: RunConfig, problem: str, advice: str) -> InputError:
    return input_error(f"select = {problem}", file=config.origin.of_key("train", "select"), advice=advice)


def _prepare(learner: Learner, part: LogPart, config: RunConfig) -> None:
    """Let the learner read the training part, and refuse it where nothing can be learned from it."""
    try:
        if isinstance(learner, Prepares):
            learner.prepare(part)
        if isinstance(learner, ChecksLog) and not part.empty:
            learner.check_log(part)
    except ValueError as error:
        raise InputError(f"{config.origin.of_table('method')}: {error}.") from error
