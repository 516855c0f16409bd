"""Settings → data, split, learner: a run laid out, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Generator

from slatewise import config as configs
from slatewise import evaluation
from slatewise.config import DataConfig
from slatewise.data import prepared, splits
from slatewise.data.prepared import Dataset
from slatewise.data.splits import Split
from slatewise.errors import InputError, located
from slatewise.log import Catalog, LogPart
from slatewise.protocols import ChecksLog, Learner, Prepares, ResolvesFromLog, SelfEvaluating

TABLES = ("data", "encoder", "method", "train", "evaluate", "serve")


@dataclass(frozen=True, kw_only=True)
class Config:
    """[train]: the loop."""

    epochs: int = 20
    """Passes over the log; counting methods make one."""
    batch_size: int = 32
    """Windows of users' histories at once."""
    max_length: int = 1024
    """Most events that one window teaches; longer histories are cut."""
    burn_in: int = 50
    """Events before a cut window that only move the state."""
    seed: int = 0
    select: str = "ndcg@10"
    """Validation figure that chooses the weights to keep."""
    patience: int = 5
    """Epochs without a better figure before training stops."""
    checkpoint_every: int = 100
    """Steps between checkpoints; one more is written after every epoch."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_length", "patience", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.burn_in < 0:
            raise ValueError(f"burn_in is {self.burn_in}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run laid out: everything that training and evaluation need."""

    folder: Path
    tables: dict[str, Any]
    """Resolved settings."""
    dataset: Dataset
    split: Split
    train: Config
    evaluate: evaluation.Config
    learner: Learner = field(repr=False)


def lay_out(tables: dict[str, Any], folder: Path) -> Run:
    """Settings → data, split, learner; nothing is written.

    Raises:
        InputError: a setting, file or combination that cannot be used.
    """
    where = str(folder / "config.toml")
    unknown = [name for name in tables if name not in TABLES]
    if unknown:
        raise located(f'unknown table "[{unknown[0]}]"; known: {", ".join(TABLES)}', file=where)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise located(f"[{name}] is {table!r}, which is no table", file=where)
    for name in ("data", "method"):
        if name not in tables:
            raise located(f"the table [{name}] is missing", file=where)
    data = configs.convert(DataConfig, tables["data"], where=f"{where} [data]")
    loop = configs.convert(Config, tables.get("train", {}), where=f"{where} [train]")
    judge = configs.convert(evaluation.Config, tables.get("evaluate", {}), where=f"{where} [evaluate]")
    dataset = prepared.load(Path(data.path))
    if data.fingerprint not in (None, dataset.fingerprint):
        raise located(
            "these are other data than [data] fingerprint names",
            file=dataset.path,
            advice="Name the right folder, or take the fingerprint out of the configuration.",
        )
    try:
        split = splits.split_log(data, dataset.interactions)
    except ValueError as error:
        raise InputError(f"{where} [data]: {error}.") from error
    if max(judge.k) > dataset.catalog.num_items:
        raise located(
            f"[evaluate] k = {max(judge.k)} is larger than the catalog of {dataset.catalog.num_items} items", file=where
        )
    method = configs.name_of(tables["method"], "methods", where=f"{where} [method]")
    trained_on = split.part("train")
    encoder_table, learner = build_learner(
        tables["method"], tables.get("encoder", {}), dataset.catalog, trained_on, seed=loop.seed, where=where
    )
    names = learner.metric_names if isinstance(learner, SelfEvaluating) else evaluation.metric_names(judge)
    if loop.select not in names and not split.part("valid").empty:
        raise located(
            f'[train] select = "{loop.select}" is no validation figure',
            file=where,
            advice=f"One of: {', '.join(names)}.",
        )
    _prepare(learner, trained_on, where)
    resolved = {
        "data": configs.to_table(replace(data, fingerprint=dataset.fingerprint)),
        "encoder": encoder_table,
        "method": {"name": method, **configs.to_table(_resolve(tables["method"], trained_on, where))},
        "train": configs.to_table(loop),
        "evaluate": configs.to_table(judge),
        "serve": tables.get("serve", {}),
    }
    return Run(
        folder=folder, tables=resolved, dataset=dataset, split=split, train=loop, evaluate=judge, learner=learner
    )


def learner_config(table: dict[str, Any], where: str) -> Any:
    """The method's Config from its table."""
    module = configs.find("methods", configs.name_of(table, "methods", where=f"{where} [method]"))
    return configs.convert(module.Config, _settings(table), where=f"{where} [method]")


def build_learner(
    method: dict[str, Any], encoder: dict[str, Any], catalog: Catalog, part: LogPart, *, seed: int, where: str
) -> tuple[dict[str, Any], Learner]:
    """The resolved encoder table, and a learner with fresh weights.

    Raises:
        InputError: unknown components or keys, settings that do not fit the catalog.
    """
    module = configs.find("methods", configs.name_of(method, "methods", where=f"{where} [method]"))
    config = _resolve(method, part, where)  # first: a method may refuse the log as a whole
    name = configs.name_of(encoder, "encoders", where=f"{where} [encoder]", default=module.DEFAULT_ENCODER)
    encoder_module = configs.find("encoders", name)
    settings = configs.convert(encoder_module.Config, _settings(encoder), where=f"{where} [encoder]")
    resolved = settings.resolve(part) if isinstance(settings, ResolvesFromLog) else settings
    generator = Generator().manual_seed(seed)
    try:
        built = encoder_module.Encoder(resolved, catalog, generator=generator)
        learner = module.Learner(config, built, catalog, generator=generator)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error
    return {"name": name, **configs.to_table(resolved)}, learner


def _prepare(learner: Learner, part: LogPart, where: str) -> None:
    """Let the learner read the training part, and refuse it where nothing can be learned from it."""
    try:
        if isinstance(learner, Prepares):
            learner.prepare(part)
        if isinstance(learner, ChecksLog) and not part.empty:
            learner.check_log(part)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error


def _resolve(table: dict[str, Any], part: LogPart, where: str) -> Any:
    """The method's Config, with what it must know of the training part where it asks for that."""
    config = learner_config(table, where)
    return config.resolve(part) if isinstance(config, ResolvesFromLog) else config


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}
