"""slatewise doctor, on real installations laid out on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command

from slatewise.cli._checkup import Finding, checkup
from slatewise.machine import Machine

MACHINE = Machine(system="", cpu="one", cores=2, memory=8 << 30, memory_free=4 << 30, load=0.5, python="3.11.0")


def installed(folder: Path, name: str, version: str, *requires: str, module: str | None = None) -> None:
    """A package as pip leaves it."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (about / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires), ""]))
    if module is not None:
        (folder / f"{name}.py").write_text(module)


def found(value: Any) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in value["findings"]}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks into first; the working folder is another, empty one."""
    (tmp_path / "site").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "site"


def test_everything_needed_is_there(slatewise: Command) -> None:
    said = slatewise("doctor")
    assert said.code == 0, said.out
    assert said.out.rstrip().endswith("Everything required is present.")
    for word in ("torch", "faiss-cpu", "pyarrow", "polars", "numpy", "cores to use", "GB free", "loopback"):
        assert word in said.out


def test_json_is_one_object_with_the_machine_and_every_finding(slatewise: Command) -> None:
    said = slatewise("doctor", "--json")
    assert said.code == 0
    assert said.value["ok"] is True
    assert {"cores", "threads", "memory", "instructions"} <= set(said.value["machine"])
    assert {"python", "torch", "numpy", "data", "runs", "package index", "dev"} <= set(found(said.value))
    assert {finding["state"] for finding in said.value["findings"]} <= {"ok", "optional", "warning"}


def test_what_is_missing_too_old_or_broken_is_named_with_the_way_to_it(site: Path, slatewise: Command) -> None:
    needs = ["here>=1.2", "gone>=3", "old>=2.10", "broken[fast]>=1", 'nice>=1; extra == "extra"', "here; extra == 'x'"]
    installed(site, "slatewise", "9.9", *needs)
    installed(site, "here", "1.2+local", module="")
    installed(site, "old", "2.9.1", module="")
    installed(site, "broken", "1.0", module="raise OSError('libgone.so.1: cannot open shared object file')")
    said = slatewise("doctor", "--json")
    assert said.code == 1
    assert said.value["ok"] is False
    findings = found(said.value)
    assert {name: findings[name]["state"] for name in ("here", "gone", "old", "broken", "extra", "x")} == {
        "here": "ok",
        "gone": "missing",
        "old": "missing",
        "broken": "missing",
        "extra": "optional",
        "x": "ok",
    }
    assert findings["gone"]["value"] == "not installed"
    assert findings["old"]["value"] == "2.9.1; 2.10 or newer is required"
    assert "libgone.so.1" in findings["broken"]["value"]
    for name in ("gone", "old", "broken"):
        assert "pip install" in findings[name]["advice"]
    assert findings["extra"]["value"] == "not installed: nice"
    assert findings["extra"]["advice"].endswith("pip install 'slatewise[extra]'")
    said = slatewise("doctor")
    assert said.out.rstrip().endswith("Missing: gone, old, broken.")
    assert said.out.count("MISSING") == 3


def test_only_an_optional_part_is_missing(site: Path, slatewise: Command) -> None:
    installed(site, "slatewise", "9.9", 'nice>=1; extra == "extra"')
    said = slatewise("doctor")
    assert said.code == 0
    assert "not installed: nice" in said.out


def test_a_folder_that_cannot_be_made_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slatewise: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").touch()
    said = slatewise("doctor", "--json")
    assert said.code == 1
    folder = found(said.value)["data"]
    assert folder["state"] == "missing"
    assert "--out DIR" in folder["advice"]
    assert found(said.value)["runs"]["value"] == "can be created"
    assert [file.name for file in tmp_path.iterdir()] == ["data"], "looking leaves nothing behind"


@pytest.mark.parametrize(
    ("name", "seen", "advice"),
    [
        ("torch", {"threads": 8, "torch": "2"}, "OMP_NUM_THREADS=2"),
        ("memory", {"memory_free": 1 << 30}, "2 GB"),
    ],
)
def test_a_machine_that_will_be_slow_is_a_warning(name: str, seen: dict[str, Any], advice: str) -> None:
    def finding(machine: Machine) -> Finding | None:
        return next(
            (one for one in checkup(machine, network=False) if one.name == name and one.group == "Machine"), None
        )

    slow = finding(Machine(**{**vars(MACHINE), **seen}))
    assert slow is not None
    assert slow.state == "warning"
    assert advice in slow.advice
    well = finding(MACHINE)
    assert well is None or well.state == "ok"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What pip asks of the only index there is."""
    paths: list[str] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            page = b'<a href="recbole-1.2.1-py3-none-any.whl">recbole-1.2.1-py3-none-any.whl</a>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None: ...

    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield paths
        server.shutdown()
        thread.join()


def test_the_index_is_asked_only_on_demand(asked: list[str], slatewise: Command) -> None:
    assert found(slatewise("doctor", "--json").value)["package index"]["value"].startswith("not checked")
    assert asked == []
    assert found(slatewise("doctor", "--network", "--json").value)["package index"]["value"] == "answers"
    assert asked == ["/simple/recbole/"]


def test_an_index_that_does_not_answer_is_a_warning_with_the_ways_on(
    monkeypatch: pytest.MonkeyPatch, asked: list[str], slatewise: Command
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    said = slatewise("doctor", "--network", "--json")
    assert said.code == 0
    index = found(said.value)["package index"]
    assert index["state"] == "warning"
    assert "--offline" in index["advice"]
    assert "--data PATH" in index["advice"]
    assert asked == []
