"""A trained policy on disk: manifest.json, config.toml, weights.safetensors, items.parquet. Nothing in it can run code.

The manifest names the SHA-256 of every other file; `load` checks them before it reads a weight. Where config.toml names
a module of somebody else's (a dotted name), `load` refuses, unless its caller trusts that module.
"""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from slatewise.catalog_file import read_catalog, write_catalog
from slatewise.config import find, read_toml
from slatewise.config.run import RunConfig
from slatewise.errors import InputError, Notice, input_error
from slatewise.files import atomic_folder, sha256
from slatewise.log import Catalog
from slatewise.protocols import KeepsIndex, Policy
from slatewise.user_file import UserTable, read_users, write_users

FORMAT = 2
CONTENT = "catalog.content."
"""How the names of the arrays begin that encode content, in weights.safetensors."""
FILES = ("config.toml", "items.parquet", "weights.safetensors")
"""What an artifact holds beside its manifest."""
INDEX = "index.safetensors"
"""Beside them, where the items of a large catalog are found by an index."""
USERS = "users.parquet"
"""Features of users, where states read them."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a policy learned from."""

    name: str = ""
    fingerprint: str = ""
    """Of the prepared data set; "" where it was none."""
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json says of an artifact."""

    created: str
    """Date and time, UTC."""
    versions: Mapping[str, str]
    """Of slatewise, torch and Python, when it was written."""
    source: Source
    metrics: Mapping[str, float]
    files: Mapping[str, str]
    """SHA-256 of every file."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What `load` gives: the policy ready to serve, the catalog, the settings and the manifest."""

    path: Path
    policy: Policy
    catalog: Catalog
    config: RunConfig
    manifest: Manifest
    users: UserTable | None = None
    """Features of users; None where states read none."""

    @property
    def version(self) -> str:
        """Name of this very policy: 12 digits of a SHA-256 of its weights, its items in their order, and its settings.

        A user's memory is read under the version that wrote it alone, and all three say what the memory means. An index
        belongs to it, because propensities follow from what it finds.
        """
        names = [name for name in (*FILES, INDEX) if name in self.manifest.files]
        lines = "".join(f"{name} {self.manifest.files[name]}\n" for name in names)
        return hashlib.sha256(lines.encode()).hexdigest()[:12]


def save(
    path: Path,
    *,
    policy: Policy,
    catalog: Catalog,
    config: RunConfig,
    metrics: Mapping[str, float],
    source: Source,
    users: UserTable | None = None,
) -> None:
    """Write an artifact; the folder appears whole or not at all.

    Args:
        path: folder to make or replace.
        policy: its ``state_dict`` becomes the weights.
        catalog: the items it knows.
        config: resolved settings; its method and encoder say how to build the policy again.
        metrics: metrics to keep with it.
        source: what it was trained on.
        users: features of users, where states read them.
    """
    with atomic_folder(path) as folder:
        (folder / "config.toml").write_text(config.to_toml(), encoding="utf-8")
        weights = {name: tensor.detach().contiguous().clone() for name, tensor in policy.state_dict().items()}
        save_file(weights | _content_arrays(catalog), folder / "weights.safetensors")
        write_catalog(folder / "items.parquet", catalog)
        index = policy.index_arrays() if isinstance(policy, KeepsIndex) else {}
        if index:
            save_file(index, folder / INDEX)
        if users is not None:
            write_users(folder / USERS, users)
        manifest = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "slatewise": metadata.version("slatewise"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "source": asdict(source),
            "metrics": dict(metrics),
            "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def load(path: Path, *, allow_modules: bool = False) -> Artifact:
    """Read an artifact, check it, and build its policy.

    Args:
        path: the artifact folder.
        allow_modules: import the modules that config.toml names beside the components of this package; that runs
            their code.

    Raises:
        InputError: no artifact there, a file changed or missing, a format of another time, a module that was not
            allowed, or weights that do not fit.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise input_error("the file is missing", file=file, advice="Copy the artifact again, whole.")
        if sha256(file) != expected:
            raise input_error(
                f"its SHA-256 is not the one in manifest.json ({expected[:12]}…): it was changed or cut short",
                file=file,
                advice="Copy the artifact again, or train anew.",
            )
    config = _read_config(path / "config.toml", allow_modules=allow_modules)
    try:
        catalog = read_catalog(path / "items.parquet")
    except (pa.ArrowException, LookupError, ValueError) as error:
        raise input_error(f"no catalog: {error}", file=path / "items.parquet") from error
    try:
        weights = load_file(path / "weights.safetensors")
        catalog = _with_arrays(catalog, weights)
        policy = build_policy(config, catalog, where=str(path / "config.toml"))
        policy.load_state_dict(weights)
    except (RuntimeError, SafetensorError) as error:
        raise input_error(
            f"the weights do not fit the configuration: {error}", file=path / "weights.safetensors"
        ) from error
    if isinstance(policy, nn.Module):
        policy.eval()
    _open_index(path, policy, config.retrieval.uses_index(catalog.num_items))
    users = None
    if USERS in manifest.files:
        try:
            users = read_users(path / USERS)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise input_error(f"no features of users: {error}", file=path / USERS) from error
    return Artifact(path=path, policy=policy, catalog=catalog, config=config, manifest=manifest, users=users)


def _open_index(path: Path, policy: Policy, uses_index: bool) -> None:
    """Let the policy find its items by the index beside it; one that should have an index and has none builds it."""
    if not isinstance(policy, KeepsIndex):
        return
    file = path / INDEX
    if file.is_file():
        try:
            policy.load_index(load_file(file))
        except (SafetensorError, ValueError) as error:
            raise input_error(
                f"the index does not fit the policy: {error}",
                file=file,
                advice="Copy the artifact again, or train anew.",
            ) from error
    elif uses_index:
        policy.build_index()
        if policy.index_arrays():
            warnings.warn(
                f"{path} has no index for its large catalog: one was built, whose recall nobody measured. Train again "
                'to keep one, or set retrieval.index = "exact".',
                Notice,
                stacklevel=3,
            )


def _content_arrays(catalog: Catalog) -> dict[str, torch.Tensor]:
    """What encodes the content of further items, beside the policy's weights."""
    fitted = {} if catalog.content is None else catalog.content.fitted
    return {f"{CONTENT}{name}": torch.from_numpy(np.array(array)) for name, array in fitted.items()}


def _with_arrays(catalog: Catalog, weights: dict[str, torch.Tensor]) -> Catalog:
    """The catalog with those arrays, which are taken out of the weights."""
    if catalog.content is None:
        return catalog
    names = [name for name in weights if name.startswith(CONTENT)]
    fitted = {name.removeprefix(CONTENT): weights.pop(name).numpy() for name in names}
    return replace(catalog, content=replace(catalog.content, fitted=fitted))


def read_manifest(path: Path) -> Manifest:
    """The manifest of an artifact, its format checked.

    Raises:
        InputError: no manifest, or not one of ours.
    """
    file = path / "manifest.json"
    if not file.is_file():
        raise input_error(
            "no artifact here: manifest.json is missing", file=path, advice="`slatewise train` makes one."
        )
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise input_error(f"no JSON: {error}", file=file) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        said = f"format {manifest.get('format')!r}" if isinstance(manifest, dict) else "no table"
        raise input_error(
            f"{said}; this version reads format {FORMAT}",
            file=file,
            advice=_train_again(path),
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or sorted(files.keys() - {INDEX, USERS}) != sorted(FILES):
        named = ", ".join(map(repr, files)) if isinstance(files, dict) else repr(files)
        raise input_error(
            f"it names the files {named}; expected {', '.join(FILES)}",
            file=file,
            advice="This is no artifact of ours: do not use it.",
        )
    try:
        return msgspec.convert({**manifest, "files": {name: str(value) for name, value in files.items()}}, Manifest)
    except msgspec.ValidationError as error:
        raise input_error(str(error), file=file, advice="Copy the artifact again, whole.") from error


def _train_again(path: Path) -> str:
    """What to do with an artifact that this version cannot read."""
    run = path.parent if path.name == "artifact" else path
    return f"Train it again: `slatewise train CONFIG --out {run} --overwrite`."


def build_policy(config: RunConfig, catalog: Catalog, *, where: str) -> Policy:
    """An untrained policy from its settings (weights come from ``load_state_dict``).

    Raises:
        InputError: settings that do not fit the catalog.
    """
    method, encoder = find("methods", config.method.name), find("encoders", config.encoder.name)
    try:
        return method.Policy(config.method.settings, encoder.Encoder(config.encoder.settings, catalog), catalog)
    except ValueError as error:
        raise input_error(str(error), file=where) from error


def _read_config(file: Path, *, allow_modules: bool) -> RunConfig:
    """Settings whose components are ours or allowed."""
    tables = read_toml(file)
    _check_names(tables, file, allow_modules=allow_modules)
    try:
        return RunConfig.from_tables(tables, where=str(file))
    except InputError as error:
        raise InputError(f"{error} If another version wrote it: {_train_again(file.parent)}") from error


def _check_names(tables: dict[str, Any], file: Path, *, allow_modules: bool) -> None:
    """Before anything is imported: the components are named, and are ours or allowed."""
    for room in ("method", "encoder"):
        table = tables.get(room)
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str):
            raise input_error(f"[{room}] has no name", file=file, advice="Train anew; `slatewise train` writes one.")
        if "." in name and not name.startswith("slatewise.") and not allow_modules:
            raise input_error(
                f'[{room}] name = "{name}" is a module of somebody else\'s, and to load it would run its code',
                file=file,
                advice="If you trust it: --allow-module (in Python, allow_modules=True).",
            )
