"""What `slatewise serve` answers to a scripted exchange, without ids, times and versions.

Every user uses at most one item of a slate, and says so before the next one is asked for.
"""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden.commands import COMMAND, Commands, environment, numbers
from tests.golden.methods import Trainings, or_failure

SERVED = {
    "cloning, gru": 0,
    "cloning, lstm": 0,
    "cloning, cfn": 0,
    "cloning, liked": 0,
    "cloning, slates, gru with context": 2,
    "item_knn, window": 0,
    "random": 0,
    "reinforce, standard, behaviour by policy, baseline": 0,
    "slateq, q": 2,
    "slateq, sarsa, greedy slates, observed": 2,
    "tpgr, k-means of factors": 0,
    "wolpertinger": 0,
    "wolpertinger, approximate search": 0,
    "fcpo, imitation": 0,
}
"""Case → how many numbers of context its log has."""
KEPT = {
    "decision": ("user_id", "session_id", "slate", "logp", "explored", "context"),
    "outcome": ("user_id", "item_id", "position", "type", "value", "outcome_id"),
}
"""Of the records of the event log."""


@dataclass(kw_only=True)
class Exchange:
    """Requests to one service, and what came back."""

    url: str
    case: str
    notes: list[tuple[str, Any]] = field(default_factory=list)

    def send(self, what: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and answer of a POST; the status of a refusal is kept, its words are not."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", data=data), timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as refusal:
            self.keep(what, refusal.code)
            return refusal.code, json.load(refusal)

    def keep(self, what: str, value: Any) -> None:
        """Note an answer."""
        self.notes.append((f"{self.case} | {len(self.notes)} {what}", value))

    def recommend(self, what: str, user: str, k: int, **fields: Any) -> Any:
        """Ask for a slate."""
        status, answer = self.send(what, "/recommend", {"user_id": user, "k": k, **fields})
        if status == 200:
            items = answer["items"]
            columns = {
                key: [item[key] for item in items] for key in ("item_id", "title", "logp", "propensity", "explored")
            }
            self.keep(what, {**columns, "total": answer["logp"], "simulated": answer["simulated"]})
        return answer

    def feedback(self, what: str, body: Any) -> None:
        """Say what came of it."""
        status, answer = self.send(what, "/feedback", body)
        if status == 200:
            receipts = [[receipt["status"], receipt["moved"]] for receipt in answer["outcomes"]]
            self.keep(what, [answer["accepted"], answer["duplicates"], receipts])

    def health(self) -> None:
        """How much was served."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=60) as response:
            answer = json.load(response)
        self.keep("health", {key: answer[key] for key in ("status", "decisions", "outcomes", "items", "simulated")})


def record(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """The exchange with every case of SERVED, a restart, and the log it leaves."""
    for case, width in SERVED.items():
        yield from or_failure(case, _exchange(trainings, case, width))


def _exchange(trainings: Trainings, case: str, width: int) -> Iterator[tuple[str, Any]]:
    trainings.train(case)
    run = trainings.folder(case)
    exchange = Exchange(url="", case=case)
    with _service(trainings.commands, run, "--seed", "5") as exchange.url:
        _talk_as_known_user(exchange, width)
        _talk_as_stranger(exchange)
        _send_several_outcomes(exchange)
        _send_unusable(exchange, width)
        exchange.health()
    with _service(trainings.commands, run, "--seed", "6", "--greedy") as exchange.url:
        exchange.recommend("after a restart, greedy", "u1", 5)
        exchange.recommend("after a restart, greedy, stranger", "somebody", 5)
        exchange.recommend("after a restart, explore", "u1", 5, explore={"keep": 1})
    with _service(trainings.commands, run, "--seed", "7", "--allow-repeats", "--top-m", "12") as exchange.url:
        exchange.recommend("repeats allowed", "u1", 5)
    events = run / "serve" / "events"
    for at, line in enumerate(_records(events)):
        exchange.keep(f"record {at}", line)
    log = trainings.commands.answer("data", "import", events, "--out", f"{run}-log")
    for name, value in numbers(log["counts"]).items():
        exchange.keep(f"imported {name}", value)
    yield from exchange.notes


def _talk_as_known_user(exchange: Exchange, width: int) -> None:
    """A user of the training log."""
    first = exchange.recommend("user of the log", "u1", 5)
    click = {"event_id": first["event_id"], "position": 1, "outcome_id": "a"}
    exchange.feedback("click", click)
    exchange.feedback("the same again", click)
    second = exchange.recommend("after the click", "u1", 5, session_id="evening")
    exchange.feedback(
        "rating by item",
        {
            "event_id": second["event_id"],
            "item_id": second["items"][0]["item_id"],
            "type": "rating",
            "value": 4.0,
        },
    )
    exchange.recommend("excluded", "u1", 4, exclude=["i0", "i1", "i2", "no such item"])
    exchange.recommend("candidates", "u1", 4, candidates=[f"i{item}" for item in range(0, 40, 2)])
    exchange.recommend("explored in full", "u1", 6, explore={"top_m": 20, "keep": 0, "temperature": 0.5})
    exchange.recommend("the best only", "u1", 4, explore={"top_m": 4, "keep": 4})
    exchange.feedback(
        "a use outside of any slate", {"user_id": "u1", "item_id": "i9", "type": "purchase", "value": 2.0}
    )
    exchange.recommend("after that use", "u1", 5)
    exchange.recommend("few left", "u1", 10, exclude=[f"i{item}" for item in range(37)])
    if width:
        slate = exchange.recommend("with context", "u1", 5, context=[0.25, 0.75])
        exchange.feedback("click with context", {"event_id": slate["event_id"], "position": 0, "value": 1.5})
        exchange.recommend("other context", "u1", 5, context=[1.0, 0.0])


def _talk_as_stranger(exchange: Exchange) -> None:
    """A user that the log does not know."""
    for turn in range(3):
        shown = exchange.recommend(f"stranger {turn}", "somebody", 4)
        item = shown["items"][turn]["item_id"]
        exchange.feedback(f"stranger's click {turn}", {"event_id": shown["event_id"], "item_id": item})
    exchange.feedback("an item that nobody knows", {"user_id": "somebody", "item_id": "brand new"})
    exchange.recommend("after the unknown item", "somebody", 4)


def _send_several_outcomes(exchange: Exchange) -> None:
    """A list of outcomes, and one that is repeated within it."""
    shown = [exchange.recommend(f"one of several, {user}", user, 3) for user in ("u2", "u3")]
    outcomes = [
        {"event_id": answer["event_id"], "position": place, "outcome_id": f"several-{place}"}
        for place, answer in enumerate(shown)
    ]
    exchange.feedback("a list", [*outcomes, outcomes[0]])
    for user in ("u2", "u3"):
        exchange.recommend(f"after the list, {user}", user, 3)


def _send_unusable(exchange: Exchange, width: int) -> None:
    """What cannot be used; nothing of it may move a state."""
    shown = exchange.recommend("before the refusals", "u4", 3)
    event = shown["event_id"]
    exchange.recommend("k beyond the catalog", "u4", 1000)
    exchange.recommend("k of 0", "u4", 0)
    exchange.recommend("unknown candidate", "u4", 3, candidates=["i1", "no such item"])
    exchange.recommend("no candidates", "u4", 3, candidates=[])
    exchange.recommend("top_m below k", "u4", 5, explore={"top_m": 2})
    exchange.recommend("wrong context", "u4", 3, context=[1.0] * (width + 1))
    exchange.recommend("unknown field", "u4", 3, candidate=["i1"])
    exchange.feedback("unknown event", {"event_id": "1", "position": 0})
    exchange.feedback("no event, no user", {"item_id": "i1"})
    exchange.feedback("position beyond the slate", {"event_id": event, "position": 7})
    exchange.feedback("item of no slate", {"event_id": event, "item_id": "no such item"})
    exchange.feedback("somebody else's event", {"event_id": event, "user_id": "u5", "position": 0})
    exchange.feedback("time in seconds", {"event_id": event, "position": 0, "timestamp": 1_700_000_000})
    exchange.feedback("an empty list", [])
    exchange.feedback("good and bad", [{"event_id": event, "position": 0}, {"event_id": "1", "position": 0}])
    exchange.send("no JSON", "/recommend", b"{")
    exchange.send("no such path", "/recommendations", {})
    exchange.send("method", "/health", {})
    exchange.recommend("after the refusals", "u4", 3)


@contextmanager
def _service(commands: Commands, run: Path, *options: str) -> Iterator[str]:
    """The address of a service that runs for a while."""
    words = [*COMMAND, "serve", str(run), "--port", "0", "--json", *options]
    process = subprocess.Popen(
        words, cwd=commands.work, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(words)}\n{process.communicate()[1]}")
        yield json.loads(line)["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def _records(events: Path) -> Iterator[Any]:
    """Decisions and outcomes of an event log, with what of them does not change from run to run."""
    for file in sorted(events.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            written = json.loads(line)
            if written["record"] in KEPT:
                yield {key: written[key] for key in KEPT[written["record"]] if key in written}
