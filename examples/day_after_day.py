"""From one day to the next by the commands: import, train, serve, append what was served, estimate, train on, serve."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

COMMAND = [sys.executable, "-m", "slatewise.cli"]
ITEMS = [f"film-{number:02d}" for number in range(12)]


def slatewise(*arguments: object) -> str:
    return subprocess.run([*COMMAND, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def serve_and_click(run: Path, *, seed: int) -> int:
    """Ask for single items over HTTP; users like films of even number."""
    chance, clicks = random.Random(seed), 0
    command = [*COMMAND, "serve", str(run), "--port", "0", "--keep", "0", "--allow-repeats", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            connection = HTTPConnection(json.loads(next(iter(service.stdout or ())))["url"].removeprefix("http://"))

            def post(path: str, **body: object) -> Any:
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                return json.loads(connection.getresponse().read())

            for number in range(150):
                slate = post("/recommend", user_id=f"u{number % 30}", k=1)
                if chance.random() < (0.1 if int(slate["items"][0]["item_id"][-1]) % 2 else 0.7):
                    clicks += post("/feedback", event_id=slate["event_id"], position=0)["accepted"]
            connection.close()
        finally:
            service.terminate()
    return clicks


with TemporaryDirectory() as name:
    folder, chance = Path(name), random.Random(0)
    plays = [f"u{user},{chance.choice(ITEMS)},{1_700_000_000 + 60 * play},1" for user in range(30) for play in range(8)]
    (folder / "log.csv").write_text("\n".join(["user,item,time,reward", *plays]), encoding="utf-8")
    (folder / "films.csv").write_text("\n".join(["item,title", *(f"{i},The {i}" for i in ITEMS)]), encoding="utf-8")
    data, monday, tuesday = folder / "data", folder / "monday", folder / "tuesday"
    slatewise("data", "import", folder / "log.csv", "--items", folder / "films.csv", "--out", data)
    (folder / "policy.toml").write_text(f'[data]\npath = "{data}"\n[method]\nname = "cloning"\n', encoding="utf-8")
    slatewise("train", folder / "policy.toml", "--set", "train.epochs=3", "--out", monday)
    morning = datetime.now(UTC).isoformat()
    print(f"monday's policy: {serve_and_click(monday, seed=1)} clicks of 150")
    print(slatewise("data", "append", data, monday / "serve" / "events"))
    print(slatewise("ope", monday, "--data", data, "--since", morning))
    slatewise("train", "--from", monday, "--set", f"data.learn_from={morning}", "--out", tuesday)
    print(f"tuesday's policy: {serve_and_click(tuesday, seed=2)} clicks of 150")
