"""Fetching public data sets, on made-up files: real pip, no network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slatewise.cli import main
from slatewise.data import load, prepare
from slatewise.data.fetching.datasets import RECIPES, Fetched, Options, Recipe, fetch
from slatewise.data.fetching.download import Archive, Files, Source, UnavailableError, Wheel, obtain
from slatewise.data.reading.account import Account
from slatewise.errors import InputError, SlatewiseError
from slatewise.files import sha256

RATINGS = "7\t1\t4\t100\n8\t2\t5\t90\n7\t3\t1\t100\n8\t1\t2\t95\n"
ML_WHEEL = {
    "recbole/dataset_example/ml-100k/ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    + RATINGS,
    "recbole/dataset_example/ml-100k/ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\t"
    "class:token_seq\n1\tÉté, L'\t1990\tComedy Drama\n2\tNowhere (1980)\tV\tWar\n3\tNothing\tnone\tunknown\n",
    "recbole/dataset_example/ml-100k/ml-100k.user": "user_id:token\tage:token\n7\t30\n8\t31\n",
}
FLAGS = {"unknown": "3", "Comedy": "1", "Drama": "1", "War": "2"}
ML_ARCHIVE = {
    "ml-100k/u.data": RATINGS.encode(),
    "ml-100k/u.genre": "".join(f"{genre}|{number}\n" for number, genre in enumerate(FLAGS)).encode() + b"\n",
    "ml-100k/u.item": "".join(
        f"{item}|{title}||||" + "|".join(str(int(film == item)) for film in FLAGS.values()) + "\n"
        for item, title in (("1", "Été, L' (1990)"), ("2", "Nowhere (1980)"), ("3", "Nothing"))
    ).encode("latin-1"),
    "ml-100k/u.user": b"7|30|M|none|0\n8|31|F|none|0\n",
}


def zipped(file: Path, members: Mapping[str, str | bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def wheel(folder: Path, project: str, version: str, members: Mapping[str, str | bytes]) -> Path:
    info = f"{project}-{version}.dist-info"
    return zipped(
        folder / f"{project}-{version}-py3-none-any.whl",
        {
            **members,
            f"{project}/__init__.py": "raise SystemExit('the package was imported')",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        },
    )


def only(recipe: Recipe, *sources: Source) -> Recipe:
    return replace(recipe, sources=lambda options: sources)


def pinned(recipe: Recipe, file: Path, options: Options | None = None) -> Recipe:
    """The recipe with its wheel alone, the hash of `file` in place of the real one."""
    source = recipe.sources(options or Options())[0]
    assert isinstance(source, Wheel)
    return only(recipe, replace(source, sha256=sha256(file)))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *values: object) -> None:
        del values


@contextmanager
def running(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP."""
    with running(partial(_Quiet, directory=str(folder))) as url:
        yield url


@contextmanager
def stalling(file: Path) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """A package index of one wheel that stops in the middle of it, until it is told to go on."""
    reached, go_on = threading.Event(), threading.Event()
    content = file.read_bytes()

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<html><body><a href="/{file.name}">{file.name}</a></body></html>'.encode()
            body = content if self.path.endswith(".whl") else page
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if body is content else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if body is content:
                reached.set()
                go_on.wait(120)
            with suppress(OSError):  # the one who asked is dead by now
                self.wfile.write(body[len(body) // 2 :])

        def log_message(self, *values: object) -> None:
            del values

    with running(Index) as url:
        yield url, reached, go_on


@dataclass(frozen=True, kw_only=True)
class Unzipped(Wheel):
    """A wheel that lies there already: for tests of what comes after pip."""

    file: Path

    def download_to(self, folder: Path) -> None:
        with zipfile.ZipFile(self.file) as archive:
            for name, path in self.members.items():
                (folder / name).write_bytes(archive.read(path))


def local(recipe: Recipe, file: Path, options: Options | None = None) -> Recipe:
    """The recipe with a wheel for which pip need not run."""
    source = recipe.sources(options or Options())[0]
    assert isinstance(source, Wheel)
    return only(
        recipe, Unzipped(project=source.project, version=source.version, sha256="", members=source.members, file=file)
    )


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only one that pip knows."""
    folder = tmp_path / "links"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("no_proxy", "*")
    return folder


@pytest.fixture
def ml_100k(links: Path) -> Recipe:
    return pinned(RECIPES["ml-100k"], wheel(links, "recbole", "1.2.1", ML_WHEEL))


@pytest.fixture
def local_ml_100k(tmp_path: Path) -> Recipe:
    return local(RECIPES["ml-100k"], wheel(tmp_path / "wheels", "recbole", "1.2.1", ML_WHEEL))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_ml_100k_out_of_a_wheel(ml_100k: Recipe, tmp_path: Path) -> None:
    fetched = fetch(ml_100k, out=tmp_path / "data" / "ml")
    assert (fetched.origin, fetched.downloaded, fetched.prepared) == ("wheel recbole 1.2.1", True, True)
    data = fetched.dataset
    assert data.kind == "uses"
    assert [data.catalog.title(item) for item in (2, 3, 4)] == ["Été, L' (1990)", "Nowhere (1980)", "Nothing"]
    assert data.catalog.group_names == ("", "Comedy", "War")  # of the first genres; "unknown" is none
    np.testing.assert_array_equal(data.catalog.group, [0, 0, 1, 2, 0])
    assert data.catalog.features.shape == (5, 4)  # year, three genres
    np.testing.assert_allclose(data.catalog.features[2:, 0], [1, -1, 0], atol=1e-6)
    log = data.interactions
    assert [data.users.name(user) for user in (0, 1)] == ["8", "7"]  # by first appearance in time
    np.testing.assert_array_equal(log.user_offsets, [0, 2, 4])
    np.testing.assert_array_equal(log.item, [3, 2, 2, 4])  # rows of one time keep their order
    np.testing.assert_array_equal(log.reward, [5, 2, 4, 1])
    np.testing.assert_array_equal(log.time, np.array([90, 95, 100, 100]) * 1_000_000)
    source = dict(data.manifest.source)
    account = Account.of(source)
    assert account is not None
    assert account.rows == 4
    del source["account"]
    assert source == {
        "dataset": "ml-100k",
        "recipe": 1,
        "title": RECIPES["ml-100k"].title,
        "origin": "wheel recbole 1.2.1",
    }
    assert "redistribute" in data.manifest.licence
    assert "10.1145/2827872" in data.manifest.citation
    assert not data.simulated


def test_the_archive_of_the_publisher_gives_the_same_data_set(ml_100k: Recipe, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "served" / "ml-100k.zip", ML_ARCHIVE)
    real = RECIPES["ml-100k"].sources(Options())[1]
    assert isinstance(real, Archive)
    with served(tmp_path / "served") as url:
        recipe = only(ml_100k, replace(real, url=f"{url}ml-100k.zip", sha256=sha256(archive)))
        official = fetch(recipe, out=tmp_path / "a" / "ml")
    packaged = fetch(ml_100k, out=tmp_path / "b" / "ml")
    assert official.origin == f"{url}ml-100k.zip"
    assert official.dataset.fingerprint == packaged.dataset.fingerprint


def test_the_second_fetch_does_nothing(ml_100k: Recipe, links: Path, tmp_path: Path) -> None:
    out = tmp_path / "data" / "ml"
    first = fetch(ml_100k, out=out)
    before = everything(tmp_path / "data")
    shutil.rmtree(links)
    again = fetch(ml_100k, out=out)
    assert (again.downloaded, again.prepared) == (False, False)
    assert again.origin == first.origin
    assert everything(tmp_path / "data") == before
    # another folder beside it: the files of the cache are enough
    beside = fetch(ml_100k, out=tmp_path / "data" / "copy")
    assert (beside.downloaded, beside.prepared) == (False, True)
    assert beside.dataset.fingerprint == first.dataset.fingerprint


def test_what_was_damaged_is_fetched_again(local_ml_100k: Recipe, tmp_path: Path) -> None:
    out, cache = tmp_path / "data" / "ml", tmp_path / "data" / ".cache" / "ml-100k"
    first = fetch(local_ml_100k, out=out)
    (out / "item.npy").write_bytes(b"")
    (cache / "ml-100k.inter").write_text("changed")
    again = fetch(local_ml_100k, out=out)
    assert (again.downloaded, again.prepared) == (True, True)
    assert again.dataset.fingerprint == first.dataset.fingerprint


def test_another_data_set_is_not_replaced(local_ml_100k: Recipe, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [1], "reward": [1.0]})
    prepare(frame, out=tmp_path / "data" / "ml", name="mine")
    before = everything(tmp_path / "data")
    with pytest.raises(InputError, match="holds another data set than ml-100k"):
        fetch(local_ml_100k, out=tmp_path / "data" / "ml")
    (tmp_path / "data" / "letters").mkdir()
    (tmp_path / "data" / "letters" / "a.txt").write_text("dear")
    with pytest.raises(InputError, match="not a prepared data set"):
        fetch(local_ml_100k, out=tmp_path / "data" / "letters")
    shutil.rmtree(tmp_path / "data" / "letters")
    assert everything(tmp_path / "data") == before


@pytest.mark.parametrize("case", ["hash", "member", "version", "no zip"])
def test_a_wheel_that_does_not_fit(case: str, links: Path, tmp_path: Path) -> None:
    if case == "hash":
        wheel(links, "recbole", "1.2.1", ML_WHEEL)
        recipe, what = only(RECIPES["ml-100k"], RECIPES["ml-100k"].sources(Options())[0]), "SHA-256 of recbole-1.2.1"
    elif case == "member":
        short = {name: content for name, content in ML_WHEEL.items() if not name.endswith(".item")}
        recipe, what = pinned(RECIPES["ml-100k"], wheel(links, "recbole", "1.2.1", short)), r"has no .*ml-100k\.item"
    elif case == "version":
        file = wheel(links, "recbole", "1.2.0", ML_WHEEL)
        recipe, what = pinned(RECIPES["ml-100k"], file), "pip could not download it: No matching distribution"
    else:
        file = links / "recbole-1.2.1-py3-none-any.whl"
        file.write_bytes(b"<html>log in first</html>")
        recipe, what = pinned(RECIPES["ml-100k"], file), "pip could not download it|not a zip archive"
    with pytest.raises(SlatewiseError, match=what) as caught:
        fetch(recipe, out=tmp_path / "data" / "ml")
    assert not isinstance(caught.value, InputError)  # exit code 1
    for way in ("--data PATH", "--offline", "PIP_INDEX_URL"):
        assert way in str(caught.value)
    assert everything(tmp_path / "data") == {}


def test_the_publisher_is_asked_where_the_registry_has_nothing(links: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "served" / "ml-100k.zip", ML_ARCHIVE)
    packaged, official = RECIPES["ml-100k"].sources(Options())
    assert isinstance(official, Archive)
    with served(tmp_path / "served") as url:
        recipe = only(RECIPES["ml-100k"], packaged, replace(official, url=f"{url}ml-100k.zip", sha256=sha256(archive)))
        fetched = fetch(recipe, out=tmp_path / "data" / "ml")
        wrong = only(RECIPES["ml-100k"], packaged, replace(official, url=f"{url}ml-100k.zip"))
        with pytest.raises(SlatewiseError, match=r"wheel recbole 1\.2\.1: pip .*; http.*: the SHA-256 of archive\.zip"):
            fetch(wrong, out=tmp_path / "other" / "ml")
    assert fetched.origin == f"{url}ml-100k.zip"
    assert fetched.dataset.interactions.num_rows == 4


def test_a_publisher_that_does_not_answer_costs_two_seconds(links: Path, tmp_path: Path) -> None:
    # an address for documentation (RFC 5737): packets to it go nowhere
    silent = Archive(url="https://192.0.2.1/x.zip", sha256="0" * 64, members={"a": "a"})
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=r"192\.0\.2\.1 does not answer"):
        obtain([silent], tmp_path / "cache")
    assert time.monotonic() - start < 4
    assert not (tmp_path / "cache").exists()


def test_without_pip_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    source = Wheel(project="recbole", version="1.2.1", sha256="0" * 64, members={})
    with pytest.raises(UnavailableError, match=r"no pip .*ensurepip"):
        obtain([source], tmp_path / "cache")


def test_a_fetch_killed_halfway_is_done_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: Path) -> None:
    file = wheel(tmp_path / "served", "recbole", "1.2.1", {**ML_WHEEL, "recbole/ballast": os.urandom(1 << 20)})
    recipe = pinned(RECIPES["ml-100k"], file)
    out = tmp_path / "data" / "ml"
    script = (
        "import sys; from pathlib import Path; from dataclasses import dataclass, replace\n"
        "from slatewise.data.fetching.datasets import RECIPES, Options, fetch\n"
        "real = RECIPES['ml-100k']; source = replace(real.sources(Options())[0], sha256=sys.argv[2])\n"
        "fetch(replace(real, sources=lambda options: (source,)), out=Path(sys.argv[1]))\n"
    )
    with stalling(file) as (url, reached, go_on):
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}simple")
        process = subprocess.Popen([sys.executable, "-c", script, str(out), sha256(file)], start_new_session=True)
        try:
            assert reached.wait(120), "pip never asked for the wheel"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        left = list((tmp_path / "data" / ".cache").iterdir())
        assert [path.name.startswith(".ml-100k.") and path.name.endswith(".partial") for path in left] == [True]
        assert not out.exists()
        go_on.set()
        fetched = fetch(recipe, out=out)
    assert (fetched.downloaded, fetched.dataset.interactions.num_rows) == (True, 4)
    assert [path.name for path in (tmp_path / "data" / ".cache").iterdir()] == ["ml-100k"]


def obd_members(campaign: str = "all") -> dict[str, str | bytes]:
    codes = {"a": "a" * 32, "b": "b" * 32, "c": "c" * 32}
    header = ",timestamp,item_id,position,click,propensity_score," + ",".join(f"user_feature_{k}" for k in range(4))

    def log(*rows: str) -> str:
        return "\n".join([header + ",user-item_affinity_0", *rows]) + "\n"

    def row(number: int, second: float, item: int, place: int, click: int, propensity: float, visitor: str) -> str:
        moment = f"2019-11-24 00:00:{second:09.6f}+00:00"
        shown = ",".join(codes[code] for code in visitor)
        return f"{number},{moment},{item},{place},{click},{propensity},{shown},0.0"

    folder = "obp/dataset/obd"
    items = ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n"
    items += "0,0,-0.5,aaaaaaaa,cccccccc,bbbbbbbb\n1,1,1.5,bbbbbbbb,cccccccc,bbbbbbbb\n"
    return {
        f"{folder}/random/{campaign}/{campaign}.csv": log(
            row(0, 1.5, 0, 3, 0, 0.5, "abca"), row(1, 2.25, 1, 1, 1, 0.5, "abcb")
        ),
        f"{folder}/bts/{campaign}/{campaign}.csv": log(
            row(0, 0.5, 1, 2, 0, 0.75, "abca"), row(1, 3.5, 1, 1, 0, 0.0625, "cbca")
        ),
        f"{folder}/random/{campaign}/item_context.csv": items,
        f"{folder}/bts/{campaign}/item_context.csv": items,
    }


def obd(tmp_path: Path, options: Options) -> Fetched:
    file = wheel(tmp_path / "wheels", "obp", "0.4.1", obd_members(options.campaign))
    recipe = local(RECIPES["obd-small"], file, options)
    return fetch(recipe, out=tmp_path / "data" / f"obd-{options.policy}", options=options)


def test_the_open_bandit_sample_out_of_a_wheel(links: Path, tmp_path: Path) -> None:
    options = Options(campaign="women")
    recipe = pinned(RECIPES["obd-small"], wheel(links, "obp", "0.4.1", obd_members("women")), options)
    fetched = fetch(recipe, out=tmp_path / "data" / "obd", options=options)
    assert (fetched.origin, fetched.dataset.interactions.num_events) == ("wheel obp 0.4.1", 4)
    assert (tmp_path / "data" / ".cache" / "obd-small-women" / "bts.csv").is_file()


def test_what_an_older_version_prepared_is_prepared_again(tmp_path: Path) -> None:
    manifest = obd(tmp_path, Options()).dataset.path / "manifest.json"
    assert not obd(tmp_path, Options()).prepared
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    with pytest.raises(InputError, match=r"format 1.*slatewise data fetch obd-small --out"):
        load(manifest.parent)
    assert obd(tmp_path, Options()).prepared


def test_both_open_bandit_logs_in_one_data_set(tmp_path: Path) -> None:
    fetched = obd(tmp_path, Options())
    data, log = fetched.dataset, fetched.dataset.interactions
    assert data.kind == "impressions"
    assert data.policies.names.to_pylist() == ["", "bts", "random"]
    owners = [data.users.name(user).split("/")[0] for user in range(log.num_users)]
    owner_of_event = np.repeat(owners, np.diff(log.user_offsets))
    policy_of_event = [data.policies.name(int(number)) for number in log.policy_id]
    assert owner_of_event.tolist() == policy_of_event  # selecting by policy never cuts a user's history
    order = np.argsort(log.time)
    np.testing.assert_allclose(np.exp(log.logp[order]), [0.75, 0.5, 0.5, 0.0625])
    np.testing.assert_array_equal(log.used[order], [False, False, True, False])
    np.testing.assert_array_equal(log.event_id[order], [2, 0, 1, 3])
    assert log.session_end.all()
    assert log.slate_size == 1
    assert data.manifest.time.first == "2019-11-24T00:00:00+00:00"
    assert data.manifest.context[:3] == (
        "context_feature_0_aaaaaa",
        "context_feature_0_cccccc",
        "context_feature_1_bbbbbb",
    )
    assert data.manifest.context[-3:] == ("context_place_1", "context_place_2", "context_place_3")
    np.testing.assert_array_equal(
        log.context[order],
        # user_feature_0: a, c; _1: b; _2: c; _3: a, b; place: 1, 2, 3
        [
            [1, 0, 1, 1, 1, 0, 0, 1, 0],
            [1, 0, 1, 1, 1, 0, 0, 0, 1],
            [1, 0, 1, 1, 0, 1, 1, 0, 0],
            [0, 1, 1, 1, 1, 0, 1, 0, 0],
        ],
    )
    assert data.catalog.num_items == 2
    assert data.catalog.title(3) == "item 1"
    assert data.catalog.group_names == ("", "3/bbbbbb")


def test_one_open_bandit_log_has_the_context_of_both(tmp_path: Path) -> None:
    options = Options(campaign="men", policy="random")
    fetched = obd(tmp_path, options)
    data = fetched.dataset
    assert data.policies.names.to_pylist() == ["", "random"]
    assert data.interactions.num_events == 2
    assert data.interactions.context.shape == (2, 9)
    assert data.manifest.source["campaign"] == "men"
    other = obd(tmp_path, Options(campaign="men", policy="bts"))
    assert not other.downloaded
    assert other.dataset.manifest.context == data.manifest.context


def test_another_option_prepares_anew(tmp_path: Path) -> None:
    file = wheel(tmp_path / "wheels", "obp", "0.4.1", obd_members())
    recipe = local(RECIPES["obd-small"], file)
    both = fetch(recipe, out=tmp_path / "data" / "obd")
    bts = fetch(recipe, out=tmp_path / "data" / "obd", options=Options(policy="bts"))
    assert (both.dataset.interactions.num_events, bts.dataset.interactions.num_events) == (4, 2)
    assert (bts.downloaded, bts.prepared) == (False, True)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, answer: str | None = None) -> int:
    """The command line in this process; with an answer its input is a terminal. Gives the exit code."""
    stdin = io.StringIO(answer or "")
    monkeypatch.setattr(stdin, "isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.argv", ["slatewise", "data", "fetch", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_terms_must_be_accepted(
    local_ml_100k: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slatewise.data.fetching.datasets.RECIPES", {"ml-100k": local_ml_100k})
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "ml-100k") == 2
    shown = capsys.readouterr()
    assert "may not redistribute" in shown.err
    assert "10.1145/2827872" in shown.err
    assert "slatewise data fetch ml-100k --accept-license" in shown.err
    assert shown.out == ""
    assert run(monkeypatch, "ml-100k", answer="n\n") == 1
    assert "nothing was fetched" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert run(monkeypatch, "ml-100k", answer="y\n") == 0
    assert "from      wheel recbole 1.2.1" in capsys.readouterr().out
    # what is there needs no second consent
    assert run(monkeypatch, "ml-100k") == 0
    shown = capsys.readouterr()
    assert "nothing to do: data/ml-100k is there already" in shown.out
    assert shown.err == ""


def test_the_command_answers_in_json(
    local_ml_100k: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slatewise.data.fetching.datasets.RECIPES", {"ml-100k": local_ml_100k})
    out = tmp_path / "ml"
    assert run(monkeypatch, "ml-100k", "--out", str(out), "--accept-license", "--json") == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert value["path"] == str(out)
    assert value["counts"]["rows"] == 4
    assert (value["origin"], value["downloaded"], value["prepared"]) == ("wheel recbole 1.2.1", True, True)
    assert value["citation"] in shown.err


def test_without_a_registry_the_command_names_the_ways_on(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = only(RECIPES["ml-100k"], RECIPES["ml-100k"].sources(Options())[0])
    monkeypatch.setattr("slatewise.data.fetching.datasets.RECIPES", {"ml-100k": recipe})
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    assert run(monkeypatch, "ml-100k", "--out", str(tmp_path / "ml"), "--accept-license") == 1
    error = capsys.readouterr().err
    assert "no package registry answered" in error
    assert "--data PATH" in error
    assert "--offline" in error


def test_an_option_of_another_data_set_is_refused(local_ml_100k: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='ml-100k has no option "campaign"'):
        fetch(local_ml_100k, out=tmp_path / "ml", options=Options(campaign="men"))


def test_single_files_are_checked_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "served" / "deep").mkdir(parents=True)
    (tmp_path / "served" / "deep" / "a.csv").write_text("1")
    with served(tmp_path / "served") as url:
        good = Files(url=url, members={"x": ("deep/a.csv", hashlib.sha256(b"1").hexdigest())})
        bad = Files(url=url, members={"x": ("deep/a.csv", hashlib.sha256(b"2").hexdigest())})
        gone = Files(url=url, members={"x": ("deep/b.csv", "")})
        assert (obtain([good], tmp_path / "cache").folder / "x").read_text() == "1"
        with pytest.raises(UnavailableError, match="SHA-256 of x is"):
            obtain([bad], tmp_path / "other")
        with pytest.raises(UnavailableError, match="404"):
            obtain([gone], tmp_path / "other")


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"origin": "x", "files": {}}', '{"origin": "x", "files": {"a": "0"}}']
)
def test_a_broken_note_in_the_cache_is_no_data(tmp_path: Path, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "origin.json").write_text(note)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a").write_text("1")
    with served(tmp_path / "served") as url:
        files = Files(url=url, members={"a": ("a", hashlib.sha256(b"1").hexdigest())})
        assert obtain([files], cache).downloaded
        assert not obtain([files], cache).downloaded


def test_the_pins_are_sha_256() -> None:
    digests: list[str] = []
    for recipe in RECIPES.values():
        for options in (Options(), Options(campaign="men"), Options(campaign="women")):
            for source in recipe.sources(options):
                digests += (
                    [digest for _, digest in source.members.values()] if isinstance(source, Files) else [source.sha256]
                )
    assert len(set(digests)) == 3 + 9
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)
