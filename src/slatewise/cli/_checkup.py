"""The checks of `slatewise doctor`, one finding each."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from slatewise.machine import Machine

GB = 1 << 30
INDEX_SECONDS = 5
"""Time limit for pip's query of the index."""
_MODULES = {"faiss-cpu": "faiss", "tomli-w": "tomli_w"}
"""Packages whose module has another name."""
_REQUIREMENT = re.compile(r"([\w.-]+)[^;>=]*(?:>=\s*([\d.]+))?[^;]*(?:;.*extra\s*==\s*[\"']([\w-]+)[\"'])?")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    group: str
    name: str
    value: str
    state: Literal["ok", "missing", "warning", "optional"] = "ok"
    """missing: nothing works without it; warning: worth a look; optional: absent and not required."""
    advice: str = ""


def checkup(machine: Machine, *, network: bool) -> list[Finding]:
    """Every finding, in the order of the output."""
    needed, extras = _requirements()
    findings = [Finding(group="Versions", name="python", value=machine.python)]
    findings += [_package(name, least) for name, least in needed]
    findings += _hardware(machine)
    findings += [_folder(Path(name)) for name in ("data", "runs", tempfile.gettempdir())]
    findings.append(_loopback())
    findings.append(_index() if network else _index_not_checked())
    findings += [_extra(name, parts) for name, parts in extras.items()]
    return findings


def _requirements() -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Required packages with their minimum versions, and the packages of each extra."""
    needed: list[tuple[str, str]] = [("slatewise", "")]
    extras: dict[str, list[str]] = {}
    try:
        listed = metadata.requires("slatewise") or []
    except metadata.PackageNotFoundError:
        listed = []
    for text in listed:
        match = _REQUIREMENT.match(text)
        if match is not None and match[3]:
            extras.setdefault(match[3], []).append(match[1])
        elif match is not None:
            needed.append((match[1], match[2] or ""))
    return needed, extras


def _package(name: str, least: str) -> Finding:
    """Check that a required package is installed, recent enough and importable."""
    advice = "make setup" if (Path("Makefile").is_file() and Path("constraints.txt").is_file()) else _install("")
    try:
        version = metadata.version(name)
        importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
    except metadata.PackageNotFoundError:
        return Finding(group="Versions", name=name, value="not installed", state="missing", advice=advice)
    except Exception as error:  # a broken package may raise anything
        value = f"{version}, and cannot be imported: {error}"
        return Finding(group="Versions", name=name, value=value, state="missing", advice=advice)
    if least and _number(version) < _number(least):
        value = f"{version}; {least} or newer is required"
        return Finding(group="Versions", name=name, value=value, state="missing", advice=advice)
    return Finding(group="Versions", name=name, value=version)


def _hardware(machine: Machine) -> Iterator[Finding]:
    load = f", load {machine.load:.1f}" if machine.load is not None else ""
    yield Finding(group="Machine", name="processor", value=f"{machine.cpu}, cores to use: {machine.cores}{load}")
    if machine.threads is not None:
        many = machine.threads > machine.cores
        yield Finding(
            group="Machine",
            name="torch",
            value=f"{machine.threads} threads, {machine.instructions}, {machine.arithmetic}",
            state="warning" if many else "ok",
            advice=f"export OMP_NUM_THREADS={machine.cores}: otherwise threads wait for each other" if many else "",
        )
    if machine.memory is not None:
        free = machine.memory if machine.memory_free is None else machine.memory_free
        yield Finding(
            group="Machine",
            name="memory",
            value=f"{machine.memory / GB:.1f} GB, {free / GB:.1f} GB free",
            state="warning" if free < 2 * GB else "ok",
            advice="the demo needs about 2 GB" if free < 2 * GB else "",
        )
    disk = shutil.disk_usage(Path.cwd())
    yield Finding(
        group="Machine",
        name="disk",
        value=f"{disk.free / GB:.1f} GB free in {Path.cwd()}",
        state="warning" if disk.free < GB else "ok",
        advice="a run takes some 10 MB, a data set as much as its columns" if disk.free < GB else "",
    )


def _folder(path: Path) -> Finding:
    """Check that a folder can be created or written, by writing to the nearest existing parent."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        why = f"cannot be written: {nearest}: {error.strerror}"
        advice = "Work in another folder, or name others: --out DIR of the commands, TMPDIR for temporary files."
        return Finding(group="Folders", name=str(path), value=why, state="missing", advice=advice)
    value = "can be written" if path.exists() else "can be created"
    return Finding(group="Folders", name=str(path), value=value)


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            pass
    except OSError as error:
        advice = "`slatewise serve` and the last step of the demo need a port of this machine."
        value = f"no port of 127.0.0.1 can be taken: {error.strerror}"
        return Finding(group="Network", name="loopback", value=value, state="warning", advice=advice)
    return Finding(group="Network", name="loopback", value="ports of 127.0.0.1 can be taken")


def _index_not_checked() -> Finding:
    return Finding(group="Network", name="package index", value="not checked; --network checks it")


def _index() -> Finding:
    """Check whether pip's configured index has the package with the demo's data set."""
    advice = (
        "Not needed once installed. The demo without it: --data PATH or --offline. PIP_INDEX_URL names another one."
    )
    command = [sys.executable, "-m", "pip", "index", "versions", "recbole", "--disable-pip-version-check", "--no-input"]
    command += ["--timeout", "3", "--retries", "0"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INDEX_SECONDS)
    except subprocess.TimeoutExpired:
        value = f"no answer within {INDEX_SECONDS} s"
        return Finding(group="Network", name="package index", value=value, state="warning", advice=advice)
    if process.returncode == 0:
        return Finding(group="Network", name="package index", value="answers")
    if "No module named pip" in process.stderr:
        value, advice = "this Python has no pip to query it", f"{_python()} -m ensurepip"
    else:
        value = "does not answer, or does not have the demo's package"
    return Finding(group="Network", name="package index", value=value, state="warning", advice=advice)


def _extra(name: str, parts: list[str]) -> Finding:
    absent = [part for part in parts if not _is_installed(part)]
    if not absent:
        return Finding(group="Optional parts", name=name, value="installed")
    value = f"not installed: {', '.join(absent)}"
    return Finding(group="Optional parts", name=name, value=value, state="optional", advice=_install(name))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _install(extra: str) -> str:
    """The command that installs this package, with an extra of it."""
    ending = f"[{extra}]" if extra else ""
    try:
        origin = json.loads(metadata.distribution("slatewise").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    if origin.get("dir_info", {}).get("editable"):
        root = urllib.parse.unquote(urllib.parse.urlsplit(origin["url"]).path)
        return f"{_python()} -m pip install --editable '{_short(root)}{ending}'"
    return f"{_python()} -m pip install 'slatewise{ending}'"


def _python() -> str:
    return _short(sys.executable)


def _short(path: str) -> str:
    return min(os.path.relpath(path), path, key=len)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


__all__ = ["Finding", "checkup"]
