"""The real service in a process of its own: what it served is what the trainer reads, and a kill loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from tests.serve.world import history, save_artifact

from slatewise.cli.serve import serve
from slatewise.data import load
from slatewise.data.event_log import load_events
from slatewise.errors import InputError, SlatewiseError
from slatewise.serve.http.server import listen, url_of

COMMAND = [sys.executable, "-c", "from slatewise.cli import main; main()"]


class Service:
    """A running `slatewise serve`."""

    def __init__(self, run: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", str(run), "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1])
        self.ready: dict[str, Any] = json.loads(line)
        self.client = httpx.Client(base_url=self.ready["url"], timeout=30)

    def post(self, path: str, body: Any) -> Any:
        response = self.client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Exit code and what stood on stderr."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def begin(run: Path, *options: str) -> Service:
        services.append(Service(run, *options))
        return services[-1]

    yield begin
    for service in services:
        service.client.close()
        if service.process.poll() is None:
            service.process.kill()
            service.process.communicate()


def test_what_was_served_is_what_is_imported(tmp_path: Path, start: Callable[..., Service]) -> None:
    save_artifact(tmp_path / "run" / "artifact")
    service = start(tmp_path / "run", "--seed", "3", "--fsync", "always")
    served: dict[str, tuple[str, list[str], list[float], tuple[int, int]]] = {}
    for turn in range(4):
        for number, user in enumerate(("ann", "ben", "çelik", "dora")):
            before = time.time_ns() // 1000
            answer = service.post("/recommend", {"user_id": user, "k": 3 + number, "session_id": f"{user}{turn // 2}"})
            names, logp = [i["item_id"] for i in answer["items"]], [i["logp"] for i in answer["items"]]
            assert names == list(dict.fromkeys(names))
            served[answer["event_id"]] = (user, names, logp, (before, time.time_ns() // 1000))
    events = list(served)
    used: dict[str, tuple[int, float]] = {}
    for index, event in enumerate(events):
        if index % 3 == 2 or index == 0:
            continue  # never used, or used late
        used[event] = (index % 3, float(index))
        service.post("/feedback", {"event_id": event, "position": index % 3, "type": "rating", "value": index})
    again = {"event_id": events[1], "position": 1, "type": "rating", "value": 1}
    assert service.post("/feedback", again)["duplicates"] == 1  # repeated
    late = {"event_id": events[0], "item_id": served[events[0]][1][2], "value": 2.5, "outcome_id": "late"}
    assert service.post("/feedback", late)["outcomes"][0]["moved"]
    assert service.post("/feedback", [late, late])["duplicates"] == 2
    used[events[0]] = (2, 2.5)
    code, said = service.stop(signal.SIGTERM)
    assert (code, said) == (0, "")

    subprocess.run([*COMMAND, "data", "import", service.ready["events"], "--out", str(tmp_path / "data")], check=True)
    dataset = load(tmp_path / "data")
    assert dataset.interactions.num_events == len(served)
    assert dataset.policies.names.to_pylist() == ["", service.ready["policy_version"]]
    seen = 0
    for user in dataset.users.names.to_pylist():
        past = history(dataset, user)
        for t in range(past.mask.shape[1]):
            step = past.step(t)
            whose, names, logp, (earliest, latest) = served[str(int(step.event_id))]
            length = len(names)
            assert whose == user
            assert [dataset.catalog.vocabulary.name(item) for item in step.slate[0, :length].tolist()] == names
            assert step.slate[0, length:].tolist() == [0] * (6 - length)
            bits = step.logp[0, :length].numpy().view(np.int32)
            assert bits.tolist() == np.array(logp, np.float32).view(np.int32).tolist()
            assert np.array(logp, np.float32).astype(float).tolist() == logp  # the answer was float32 all along
            position, value = used.get(str(int(step.event_id)), (-1, 0.0))
            assert int(step.choice) == position
            expected = [value if place == position else 0.0 for place in range(6)]
            assert step.reward[0].tolist() == expected
            assert earliest <= int(step.time) <= latest
            assert bool(step.logp_known)
            assert int(step.policy_id) == 1
            assert bool(step.terminated) == (t % 2 == 1)
            seen += 1
    assert seen == len(served)


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, start: Callable[..., Service]) -> None:
    save_artifact(tmp_path / "run" / "artifact")
    service = start(tmp_path / "run", "--segment-mb", "1")
    decisions: dict[str, list[float]] = {}
    outcomes: list[tuple[str, str]] = []

    def user(name: str) -> None:
        with httpx.Client(base_url=service.ready["url"], timeout=30) as client:
            for turn in range(100_000):
                try:
                    answer = client.post("/recommend", json={"user_id": name, "k": 4}).json()
                    decisions[answer["event_id"]] = [item["logp"] for item in answer["items"]]
                    if turn % 2:
                        sent = {"event_id": answer["event_id"], "position": 0, "outcome_id": str(turn)}
                        assert client.post("/feedback", json=sent).json()["accepted"] == 1
                        outcomes.append((answer["event_id"], str(turn)))
                except httpx.TransportError:
                    return

    # few uses each, so that nobody runs out of items before the end
    users = [threading.Thread(target=user, args=(f"user {number}",)) for number in range(4)]
    for one in users:
        one.start()
    while len(decisions) < 60:
        time.sleep(0.005)
    assert service.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    for one in users:
        one.join()

    # as it lies there, before anything mends it
    frame = load_events(Path(service.ready["events"])).frame
    logged = {event: rows["logp"].to_list() for (event,), rows in frame.group_by("event_id", maintain_order=True)}
    assert {event: logged.get(event) for event in decisions} == decisions
    used = set(frame.filter("used")["event_id"])
    assert {event for event, _ in outcomes} <= used

    second = start(tmp_path / "run")
    repeated = [{"event_id": event, "position": 0, "outcome_id": name} for event, name in outcomes]
    assert second.post("/feedback", repeated)["duplicates"] == len(outcomes)
    waiting = next(event for event in decisions if event not in used)
    assert second.post("/feedback", {"event_id": waiting, "position": 1})["outcomes"][0]["moved"]
    code, _ = second.stop(signal.SIGINT)
    assert code == 0
    assert load_events(Path(service.ready["events"])).tally.torn == ()


def test_an_address_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as first:
        url = url_of(first)
        assert url.startswith("http://127.0.0.1:")
        port = int(url.rpartition(":")[2])
        with pytest.raises(SlatewiseError, match=rf"127\.0\.0\.1:{port} cannot be listened to.*another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(SlatewiseError, match="cannot be listened to"):
        listen("no.such.host.invalid", 0)


def test_the_command_refuses_a_folder_without_a_policy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        serve(tmp_path, port=0)
    assert list(tmp_path.iterdir()) == []
