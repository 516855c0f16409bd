"""How much of a request is ours: the service beside an echo on the same HTTP stack, in turns, by the same client.

The echo is Starlette on uvicorn as well: it decodes the request and sends back as many bytes as the service does, but
recommends, remembers and logs nothing. Both run in processes of their own; every round asks first the one, then the
other. Printed are medians over the rounds.

    python bench/serve.py [--json] [--items 1682] [--connections 8] [--rounds 7] [--requests 400]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from slatewise import artifact
from slatewise.config.run import Component, RunConfig
from slatewise.encoders import gru
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.machine import commit, facts
from slatewise.methods import cloning

ECHO = """
import sys
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from slatewise.serve.http.schema import RecommendRequest
from slatewise.serve.http.server import listen, run_server, url_of

decode = msgspec.json.Decoder(RecommendRequest).decode
answer = msgspec.json.encode({"echo": "x" * int(sys.argv[1])})

async def recommend(request: Request) -> Response:
    decode(await request.body())
    return Response(answer, media_type="application/json")

listening = listen("127.0.0.1", 0)
app = Starlette(routes=[Route("/recommend", recommend, methods=["POST"])])
run_server(app, listening, on_ready=lambda: print('{"url": "%s"}' % url_of(listening), flush=True))
"""
SERVICE = "from slatewise.cli import main; main()"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One stretch of requests to one server."""

    per_second: float
    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Milliseconds of processor time of the server, per request; does not depend on what else the machine does."""
    answer: int
    """Bytes of the last answer's body."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1682, help="size of the catalog")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=400, help="of each server in each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", type=Path, default=Path("bench/results/serve.json"))
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_policy(folder / "artifact", options.items, options.seed)
        service_command = ["-c", SERVICE, "serve", name, "--port", "0", "--json", "--seed", str(options.seed)]
        with running(service_command) as service:
            size = asyncio.run(ask(service, users=options.users, connections=1, requests=50)).answer
            with running(["-c", ECHO, str(size)]) as echo:
                rounds = measure(service, echo, options)
    result = {
        "bench": "serve",
        "commit": commit(),
        "seed": options.seed,
        "machine": asdict(facts()),
        "seconds": round(time.monotonic() - started, 1),
        "settings": {name: getattr(options, name) for name in ("items", "users", "rounds", "requests")},
        "rows": [row for connections, pairs in rounds.items() for row in rows(connections, pairs)],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2), encoding="utf-8")
    if options.json:
        print(json.dumps(result))
        return
    line = "{connections:>3} connections  {metric:<12} service {service:>9.2f}  echo {echo:>9.2f}  × {ratio:.3f}"
    for row in result["rows"]:
        print(line.format(**row))


def measure(service: Server, echo: Server, options: argparse.Namespace) -> dict[int, list[tuple[Round, Round]]]:
    """Rounds of service and echo in turns, for one connection and for many."""
    rounds: dict[int, list[tuple[Round, Round]]] = {}
    for connections in (1, options.connections):
        pairs = []
        for _ in range(options.rounds):
            ours, theirs = (
                asyncio.run(ask(server, users=options.users, connections=connections, requests=options.requests))
                for server in (service, echo)
            )
            pairs.append((ours, theirs))
        rounds[connections] = pairs
    return rounds


def rows(connections: int, pairs: list[tuple[Round, Round]]) -> Iterator[dict[str, Any]]:
    """Medians over the rounds; the ratio is the median of the rounds' ratios, for processor time that of the means."""
    for metric, unit in (("per_second", "requests/s"), ("p50", "p50 ms"), ("p99", "p99 ms"), ("cpu", "CPU ms")):
        ours = [getattr(ours, metric) for ours, _ in pairs]
        theirs = [getattr(theirs, metric) for _, theirs in pairs]
        if metric == "cpu":  # counted in ticks of 10 ms: one round of the echo is hardly one tick
            ours, theirs = [statistics.mean(ours)], [statistics.mean(theirs)]
            if not theirs[0] > 0:
                continue  # too short to count, or nothing to read it from
        yield {
            "connections": connections,
            "metric": unit,
            "service": statistics.median(ours),
            "echo": statistics.median(theirs),
            "ratio": statistics.median(one / other for one, other in zip(ours, theirs, strict=True)),
        }


async def ask(server: Server, *, users: int, connections: int, requests: int) -> Round:
    """POST /recommend over some kept connections, each asking again when it was answered."""
    host, port = server.url.removeprefix("http://").split(":")
    seconds: list[float] = []
    size = 0

    async def connection(first: int) -> None:
        nonlocal size
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in range(first, requests, connections):
            body = b'{"user_id":"user %d","k":10}' % (number % users)
            begun = time.perf_counter()
            writer.write(b"POST /recommend HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            seconds.append(time.perf_counter() - begun)
        writer.close()
        await writer.wait_closed()

    used, begun = server.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(connection(first) for first in range(connections)))
    whole = time.perf_counter() - begun
    cpu = (server.cpu_seconds() - used) * 1e3 / requests
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return Round(per_second=requests / whole, p50=float(p50), p99=float(p99), cpu=cpu, answer=size)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server in a process of its own."""

    url: str
    process: int

    def cpu_seconds(self) -> float:
        """Processor time so far; NaN where the system has no /proc."""
        stat = Path(f"/proc/{self.process}/stat")
        if not stat.is_file():
            return math.nan
        user, system = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: list[str]) -> Iterator[Server]:
    """Start a server; it is stopped at the end."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(url=json.loads(process.stdout.readline())["url"], process=process.pid)
        finally:
            process.terminate()


def save_policy(folder: Path, num_items: int, seed: int) -> None:
    """Cloning on GRU states with first weights: the cost of an answer does not depend on their values."""
    none = np.zeros((num_items + FIRST_ITEM, 0), np.float32)
    catalog = Catalog(
        vocabulary=Vocabulary(names=pa.array([f"item {number}" for number in range(num_items)], pa.string())),
        text=("",) * (num_items + FIRST_ITEM),
        group=np.zeros(num_items + FIRST_ITEM, np.int64),
        group_names=("",),
        features=none,
    )
    generator = torch.Generator().manual_seed(seed)
    settings = gru.Config(reward_edges=(2.0, 3.0, 4.0, 5.0), context_width=0)
    encoder = gru.Encoder(settings, catalog, generator=generator)
    policy = cloning.Policy(cloning.Config(), encoder, catalog, generator=generator)
    run = RunConfig(
        method=Component(name="cloning", settings=cloning.Config()), encoder=Component(name="gru", settings=settings)
    )
    source = artifact.Source(name="first weights")
    artifact.save(folder, policy=policy, catalog=catalog, config=run, metrics={}, source=source)


if __name__ == "__main__":
    main()
