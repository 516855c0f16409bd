"""Over HTTP, in process: answers, errors with advice, the description of the service, whatever a client may send."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.core import NotSet
from starlette.testclient import TestClient
from tests.serve.events.test_files import disk_of, failing_fsync
from tests.serve.world import NUM_ITEMS, save_artifact

from slatewise.errors import SlatewiseError
from slatewise.serve import Options, create_app, open_recommender
from slatewise.serve.events.files import SegmentedLog
from slatewise.serve.http.app import example_request
from slatewise.serve.http.limits import MAX_BODY
from slatewise.serve.http.openapi import document
from slatewise.serve.users import Users


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    run = tmp_path_factory.mktemp("service") / "run"
    save_artifact(run / "artifact")
    app = create_app(open_recommender(run, Options(seed=1)))
    with TestClient(app, raise_server_exceptions=False) as started:
        yield started


def problem(response: httpx.Response, status: int) -> dict[str, str]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, str] = response.json()
    assert set(body) == {"error", "expected", "advice"}
    assert all(body.values())
    return body


def test_a_slate_over_http(client: TestClient) -> None:
    response = client.post("/recommend", json={"user_id": "ann", "k": 3})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"event_id", "policy_version", "items", "logp", "simulated"}
    assert len(answer["items"]) == 3
    assert set(answer["items"][0]) == {"item_id", "title", "position", "logp", "propensity", "explored"}
    assert answer["logp"] == pytest.approx(sum(item["logp"] for item in answer["items"]))
    assert all(math.exp(item["logp"]) == pytest.approx(item["propensity"]) for item in answer["items"])
    assert len(client.post("/recommend", json={"user_id": "ann"}).json()["items"]) == 10


def test_feedback_over_http_one_and_many(client: TestClient) -> None:
    event = client.post("/recommend", json={"user_id": "ben", "k": 3}).json()["event_id"]
    one = client.post("/feedback", json={"event_id": event, "position": 0, "type": "rating", "value": 4})
    assert one.status_code == 200
    assert one.json() == {
        "accepted": 1,
        "duplicates": 0,
        "outcomes": [{"event_id": event, "outcome_id": None, "status": "accepted", "moved": True}],
    }
    many = [{"user_id": "ben", "item_id": f"i{item}", "outcome_id": "x"} for item in range(3)]
    answer = client.post("/feedback", json=many).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 2)


def test_health_counts(client: TestClient) -> None:
    before = client.get("/health").json()
    event = client.post("/recommend", json={"user_id": "cleo"}).json()["event_id"]
    client.post("/feedback", json={"event_id": event, "position": 0})
    after = client.get("/health").json()
    assert after["status"] == "ok"
    assert after["version"] == metadata.version("slatewise")
    assert (after["decisions"], after["outcomes"]) == (before["decisions"] + 1, before["outcomes"] + 1)
    assert after["uptime_seconds"] >= before["uptime_seconds"]
    assert after["items"] == NUM_ITEMS
    assert len(after["policy_version"]) == 12


def test_the_page_for_people(client: TestClient) -> None:
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "cloning on gru states" in response.text
    assert f"{NUM_ITEMS} items" in response.text
    assert "whose columns match; columns: item_id.</p>" in response.text
    assert "The first outcome of an item that is worth more than 0 moves the user's state." in response.text
    assert "$" not in response.text
    assert "imulated" not in response.text


def test_the_page_names_a_simulated_log_and_escapes(tmp_path: Path) -> None:
    save_artifact(tmp_path / "artifact", simulated=True)
    with TestClient(create_app(open_recommender(tmp_path, Options())), base_url="http://a<b>") as started:
        page = started.get("/", headers={"host": "x<script>"}).text
    assert "Simulated log" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/recommend", b"", 400, "no JSON"),
        ("/recommend", b'{"user_id": "a"', 400, "no JSON"),
        ("/recommend", b"\xff\xfe", 400, "no JSON"),
        ("/recommend", b'{"user_id": "\xff"}', 400, "no JSON"),
        ("/recommend", b'{"user_id": "\\ud800"}', 400, "no JSON"),
        ("/recommend", b'{"user_id": "a", "context": [NaN]}', 400, "no JSON"),
        ("/recommend", b"[" * 500_000, 422, "got `array`"),
        ("/recommend", b'{"user_id": "a", "exclude": [' + b"[" * 500_000, 422, "$.exclude[0]"),
        ("/recommend", b"[]", 422, "Expected `object`, got `array`"),
        ("/recommend", b"{}", 422, "missing required field `user_id`"),
        ("/recommend", b'{"user_id": ""}', 422, "$.user_id"),
        ("/recommend", b'{"user_id": 5}', 422, "$.user_id"),
        ("/recommend", b'{"user_id": "a\\nb"}', 422, "user_id has a control character (U+000A)"),
        ("/recommend", b'{"user_id": " \\u00a0"}', 422, "user_id is empty or blank"),
        ("/recommend", '{"user_id": "%s"}'.__mod__("é" * 513).encode(), 422, "user_id has 1,026 bytes of UTF-8"),
        ("/recommend", b'{"user_id": "a", "session_id": "\\t"}', 422, "session_id is empty or blank"),
        ("/recommend", b'{"user_id": "a", "exclude": ["b", "c\\u0000"]}', 422, "exclude[1] has a control character"),
        ("/recommend", b'{"user_id": "a", "candidates": ["i1", " "]}', 422, "candidates[1] is empty or blank"),
        ("/recommend", b'{"user_id": "a", "fixed": [{"position": 0, "item_id": "\\u2028"}]}', 422, "fixed[0] is empty"),
        ("/recommend", b'{"user_id": "a", "k": 0}', 422, ">= 1"),
        ("/recommend", b'{"user_id": "a", "k": 2.5}', 422, "$.k"),
        ("/recommend", b'{"user_id": "a", "k": 41}', 422, "k is 41"),
        ("/recommend", b'{"user_id": "a", "k": 123456789012345678901234567890}', 422, "$.k"),
        ("/recommend", b'{"user_id": "a", "number": 3}', 422, "unknown field `number`"),
        ("/recommend", b'{"user_id": "a", "candidates": []}', 422, "$.candidates"),
        ("/recommend", b'{"user_id": "a", "candidates": ["x"]}', 422, 'no item "x"'),
        ("/recommend", b'{"user_id": "a", "explore": {"temperature": 0}}', 422, "$.explore.temperature"),
        ("/recommend", b'{"user_id": "a", "explore": {"top_m": 3}}', 422, "explore.top_m is 3"),
        ("/recommend", b'{"user_id": "a", "fixed": [{"position": 0}]}', 422, "$.fixed[0]"),
        ("/recommend", b'{"user_id": "a", "fixed": [{"position": -1, "item_id": "i1"}]}', 422, "$.fixed[0].position"),
        ("/recommend", b'{"user_id": "a", "fixed": [{"position": 10, "item_id": "i1"}]}', 422, "has 10 positions"),
        ("/recommend", b'{"user_id": "a", "fixed": [{"position": 1, "item_id": "x"}]}', 422, "no such item"),
        ("/feedback", b"[]", 422, "the list has 0 outcomes"),
        ("/feedback", b"7", 422, "got `int`"),
        ("/feedback", b'{"event_id": "1", "position": 0}', 404, 'no event "1"'),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "value": 1e31}', 422, "$.value"),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "value": 1e999}', 422, "$.value"),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "timestamp": 99999999999999999999}', 422, "$.timestamp"),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "timestamp": -5}', 422, "$.timestamp"),
        ("/feedback", b'{"user_id": "a"}', 422, "who used what"),
        ("/feedback", b'{"user_id": "a\\tb", "item_id": "i1"}', 422, "user_id has a control character (U+0009)"),
        ("/feedback", b'{"user_id": "a", "item_id": " "}', 422, "item_id is empty or blank"),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "type": "\\n"}', 422, "type is empty or blank"),
        ("/feedback", b'[{"event_id": "e\\r", "position": 0}]', 422, "event_id has a control character (U+000D)"),
        ("/feedback", b'{"user_id": "a", "item_id": "i1", "outcome_id": "a\\u0085"}', 422, "outcome_id has a control"),
    ],
)
def test_a_bad_body_is_answered_with_advice(client: TestClient, path: str, body: bytes, status: int, says: str) -> None:
    before = client.get("/health").json()
    assert says in problem(client.post(path, content=body), status)["error"]
    after = client.get("/health").json()
    assert (after["decisions"], after["outcomes"]) == (before["decisions"], before["outcomes"])


def test_a_body_that_is_too_large_is_refused_before_it_is_read_whole(client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * (MAX_BODY // 8)

    assert "too large" in problem(client.post("/recommend", content=endless()), 413)["error"]
    assert "--max-body" in problem(client.post("/feedback", content=b" " * (MAX_BODY + 1)), 413)["advice"]


def test_too_many_outcomes_at_once(client: TestClient) -> None:
    body = [{"user_id": "a", "item_id": "i"}] * 10_001
    assert "the list has 10,001 outcomes" in problem(client.post("/feedback", json=body), 422)["error"]


def test_wrong_paths_and_methods(client: TestClient) -> None:
    assert "POST /recommend" in problem(client.get("/recommendations"), 404)["expected"]
    response = client.get("/recommend")
    problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_a_log_that_cannot_be_written_is_no_answer(tmp_path: Path) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options())
    with TestClient(create_app(recommender, sync_seconds=None)) as started:
        with disk_of(10):
            assert "Nothing was recorded" in problem(started.post("/recommend", json={"user_id": "a"}), 503)["error"]
        assert started.post("/recommend", json={"user_id": "a"}).status_code == 200


def test_what_the_disk_may_lack_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options())
    with TestClient(create_app(recommender, sync_seconds=None)) as started:
        assert started.post("/recommend", json={"user_id": "a"}).status_code == 200
        with failing_fsync(monkeypatch), pytest.raises(SlatewiseError, match="Input/output error"):
            recommender.sync()
        # the disk works again, and has not got the first answer yet
        refused = problem(started.post("/recommend", json={"user_id": "a"}), 503)
        assert "the disk did not take earlier records (Input/output error)" in refused["error"]
        assert "nothing was recorded" in refused["advice"]
        recommender.sync()
        assert started.post("/recommend", json={"user_id": "a"}).status_code == 200
    assert (tmp_path / "serve" / "events" / "events-00000001.jsonl").read_text().count('"decision"') == 2


def test_health_says_that_the_log_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options())
    with TestClient(create_app(recommender, sync_seconds=None)) as started:
        assert started.post("/recommend", json={"user_id": "a"}).status_code == 200
        with failing_fsync(monkeypatch), pytest.raises(SlatewiseError, match="Input/output error"):
            recommender.sync()
        error = problem(started.get("/health"), 503)["error"]
        assert error.startswith("the log cannot be written: ")
        assert error.endswith("events-00000001.jsonl: the disk did not take earlier records (Input/output error)")
        recommender.sync()
        assert started.get("/health").json()["status"] == "ok"


def test_the_page_asks_for_a_user_of_the_log(tmp_path: Path) -> None:
    save_artifact(tmp_path / "artifact")
    with TestClient(create_app(open_recommender(tmp_path, Options()))) as started:
        assert "-d &#x27;{&quot;user_id&quot;: &quot;NAME&quot;}&#x27;" in started.get("/").text


def test_a_user_with_quotes_is_asked_for(tmp_path: Path) -> None:
    assert example_request("http://here", 'd\'Arc "é"') == (
        """curl -s http://here/recommend -d '{"user_id": "d'"'"'Arc \\"é\\""}'"""
    )


@pytest.mark.parametrize("moment", ["while it is computed", "while it is written"])
def test_a_request_that_the_end_of_the_service_cancels_is_answered_with_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options())
    app = create_app(recommender)
    inside, go_on = threading.Event(), threading.Event()
    before, name = (Users.move, "move") if moment == "while it is computed" else (SegmentedLog.append, "append")

    def wait(*arguments: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return before(*arguments)

    monkeypatch.setattr(Users if name == "move" else SegmentedLog, name, wait)
    body = json.dumps([{"user_id": "ann", "item_id": f"i{item}"} for item in range(3)]).encode()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    async def cancel_in_the_middle() -> None:
        scope = {"type": "http", "method": "POST", "path": "/feedback", "query_string": b"", "headers": []}
        async with app.router.lifespan_context(app):
            request = asyncio.ensure_future(app(scope, receive, send))
            await asyncio.to_thread(inside.wait, 60)
            request.cancel()  # as uvicorn does when its patience ends
            await asyncio.sleep(0)
            go_on.set()
            await request

    asyncio.run(cancel_in_the_middle())
    log = (tmp_path / "serve" / "events" / "events-00000001.jsonl").read_text()
    if moment == "while it is computed":
        assert sent[0]["status"] == 503
        assert "Nothing was recorded" in json.loads(sent[1]["body"])["error"]
        assert log.count('"outcome"') == 0
    else:
        assert sent[0]["status"] == 200
        assert json.loads(sent[1]["body"])["accepted"] == 3
        assert log.count('"outcome"') == 3


def test_a_failure_of_ours_is_json_too(tmp_path: Path) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options())
    for weight in recommender.artifact.policy.parameters():  # type: ignore[attr-defined]  # a torch module
        weight.data.fill_(math.nan)
    with TestClient(create_app(recommender), raise_server_exceptions=False) as started:
        assert "ValueError" in problem(started.post("/recommend", json={"user_id": "a"}), 500)["error"]
        assert started.get("/health").status_code == 200


def test_many_at_once_are_all_answered_and_recorded(tmp_path: Path) -> None:
    save_artifact(tmp_path / "artifact")
    recommender = open_recommender(tmp_path, Options(seed=1))
    app = create_app(recommender)

    async def user(client: httpx.AsyncClient, name: str) -> list[str]:
        events = []
        for _ in range(5):
            answer = (await client.post("/recommend", json={"user_id": name, "k": 2})).json()
            sent = {"event_id": answer["event_id"], "position": 1, "outcome_id": "1"}
            receipts = await asyncio.gather(*(client.post("/feedback", json=sent) for _ in range(2)))
            assert sorted(receipt.json()["accepted"] for receipt in receipts) == [0, 1]
            events.append(answer["event_id"])
        return events

    async def everybody() -> list[list[str]]:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await asyncio.gather(*(user(client, f"user {number}") for number in range(12)))

    events = asyncio.run(everybody())
    assert len({event for one in events for event in one}) == 60
    log = (tmp_path / "serve" / "events" / "events-00000001.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in log]
    assert sum(record["record"] == "decision" for record in records) == 60
    assert sum(record["record"] == "outcome" for record in records) == 60
    served = {record["event_id"]: record["user_id"] for record in records if record["record"] == "decision"}
    assert served == {event: f"user {number}" for number, one in enumerate(events) for event in one}


def test_the_description_is_valid_and_complete(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described == json.loads(json.dumps(document()))
    OpenAPIV31SpecValidator(described).validate()
    routes = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert routes == {
        ("/recommend", "post"), ("/feedback", "post"), ("/health", "get"), ("/masks", "get"), ("/masks", "put"),
        ("/masks", "delete"), ("/masks/{item_id}", "parameters"), ("/masks/{item_id}", "put"),
        ("/masks/{item_id}", "delete"),
    }  # fmt: skip
    assert set(described["components"]["schemas"]["RecommendRequest"]["properties"]) == {
        "user_id", "k", "explore", "exclude", "candidates", "where", "fixed", "context", "user_features",
        "session_id",
    }  # fmt: skip


described = schemathesis.openapi.from_dict(document())
cases: st.SearchStrategy[Any] = st.one_of(
    [
        described[path]["POST"].as_strategy(generation_mode=mode)
        for path in ("/recommend", "/feedback")
        for mode in schemathesis.GenerationMode
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases)
def test_what_the_description_allows_and_what_not_is_answered_as_described(client: TestClient, case: Any) -> None:
    sent = b"" if isinstance(case.body, NotSet) else case.body
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    response = client.request(case.method, case.path, content=content)
    answers = document()["paths"][case.path]["post"]["responses"]
    assert str(response.status_code) in answers, response.text
    schema = answers[str(response.status_code)]["content"]["application/json"]["schema"]
    OAS31Validator({**schema, "components": document()["components"]}).validate(response.json())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
known_keys = [
    "user_id", "k", "explore", "exclude", "candidates", "where", "fixed", "context", "event_id", "item_id", "position",
    "value",
]  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/recommend", "/feedback"]),
    body=st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(known_keys), json_values).map(lambda value: json.dumps(value).encode()),
)
def test_no_body_brings_it_down(client: TestClient, path: str, body: bytes) -> None:
    response = client.post(path, content=body)
    if response.status_code != 200:
        assert response.status_code in (400, 404, 422), response.text
        problem(response, response.status_code)


def test_a_filter_on_the_items(client: TestClient) -> None:
    asked = {"user_id": "ann", "k": 3, "where": "item_id in ('i1', 'i2', 'i3', 'i4')", "exclude": ["i2"]}
    answer = client.post("/recommend", json=asked)
    assert {item["item_id"] for item in answer.json()["items"]} == {"i1", "i3", "i4"}
    refused = client.post("/recommend", json={"user_id": "ann", "where": "price <= 5"})
    assert refused.status_code == 422
    assert refused.json() == {
        "error": 'where: the items have no column "price"',
        "expected": "one of: item_id (text)",
        "advice": "The catalog keeps the columns of an item table that is imported with --items FILE.",
    }
    for where in ("", "x" * 9000, "price <=", 5):
        assert client.post("/recommend", json={"user_id": "ann", "where": where}).status_code == 422
