"""slatewise serve RUN."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slatewise.cli._console import AllowModule, JsonFlag
from slatewise.wording import count_of

if TYPE_CHECKING:
    from slatewise.serve import Options

HELP = """Serve a trained policy over HTTP: slates with exact propensities; decisions and outcomes are logged.

RUN is a run folder or an artifact folder. Stop it with Ctrl-C; the next start continues with the same state.
The folder of events is the next log: slatewise data import EVENTS.

Users start where the log of the training ends. It is looked for at the path of [data] in the run, from the working
directory, then from the run's folder and those above it.

Example: slatewise serve runs/reinforce --port 8080
"""

Fsync = Literal["interval", "always"]
TopM = Annotated[int | None, typer.Option(help="How many of the best items may be shown.", min=1)]
Keep = Annotated[
    int | None, typer.Option(help="First positions that hold the best items, in order; default half.", min=0)
]
Temperature = Annotated[
    float | None, typer.Option(help="The other positions are drawn by softmax(score / temperature).")
]
Greedy = Annotated[
    bool | None, typer.Option("--greedy/--explore", help="Show the best items, draw nothing.", show_default=False)
]
AllowRepeats = Annotated[
    bool | None,
    typer.Option("--allow-repeats/--no-repeats", help="Recommend items from the user's history.", show_default=False),
]
Mask = Annotated[
    Path | None, typer.Option(help="File of items not to show until they are lifted: one a line, or with item_id.")
]
Seed = Annotated[
    int | None, typer.Option(help="Of the draws; default from the operating system.", min=0, max=2**63 - 1)
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", help=HELP)(serve)


def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run or artifact folder.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 = every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 = a free one.", min=0, max=65535)] = 8080,
    data: Annotated[
        Path | None, typer.Option(help="Prepared log of the users' histories; default that of the training.")
    ] = None,
    without_history: Annotated[
        bool, typer.Option("--without-history", help="Start without that log: known users begin as unknown ones.")
    ] = False,
    store: Annotated[Path | None, typer.Option(help="Folder of the state store; default RUN/serve/store.")] = None,
    events: Annotated[Path | None, typer.Option(help="Folder of the event log; default RUN/serve/events.")] = None,
    top_m: TopM = None,
    keep: Keep = None,
    temperature: Temperature = None,
    greedy: Greedy = None,
    allow_repeats: AllowRepeats = None,
    seed: Seed = None,
    mask: Mask = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Let everybody who reaches the service mask and lift items: /masks.")
    ] = False,
    fsync: Annotated[
        Fsync, typer.Option(help="When the disk must have a record: every second, or before each answer.")
    ] = "interval",
    segment_mb: Annotated[int, typer.Option(help="Size of a segment of the event log.", min=1)] = 64,
    max_body: Annotated[int, typer.Option(help="Largest body of a request, in bytes.", min=1)] = 1 << 20,
    threads: Annotated[int, typer.Option(help="Threads of one recommendation.", min=1)] = 1,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve; see HELP."""
    import torch

    from slatewise.serve import Options

    torch.set_num_threads(threads)
    options = Options(
        data=data,
        without_history=without_history,
        store=store,
        events=events,
        fsync=fsync == "always",
        segment_bytes=segment_mb << 20,
        seed=seed,
        top_m=top_m,
        keep=keep,
        temperature=temperature,
        greedy=greedy,
        allow_repeats=allow_repeats,
        allow_modules=allow_module,
        mask=mask,
    )
    _serve(run, options, address=(host, port), max_body=max_body, admin=admin, as_json=as_json)


def _serve(run: Path, options: Options, *, address: tuple[str, int], max_body: int, admin: bool, as_json: bool) -> None:
    """Serve until Ctrl-C; the address is printed once the service answers."""
    from slatewise.serve import create_app, open_recommender
    from slatewise.serve.http.app import example_request
    from slatewise.serve.http.server import listen, run_server, url_of

    with listen(*address) as listening:
        recommender = open_recommender(run, options)
        url = url_of(listening)
        ready = {
            "url": url,
            "policy_version": recommender.artifact.version,
            "events": str(recommender.events_folder),
            "simulated": recommender.simulated,
            "masked": len(recommender.served.masked),
        }

        def say() -> None:
            if as_json:
                print(json.dumps(ready), flush=True)
                return
            if recommender.simulated:
                print("The policy was trained on a simulated log.")
            if options.without_history:
                print("Started without the log of the users' histories: known users begin as unknown ones.")
            if masked := len(recommender.served.masked):
                print(f"Masked: {count_of(masked, 'item')}, also after a restart, until DELETE /masks.")
            print(f"Serving policy {ready['policy_version']} at {url} (Ctrl-C stops it). Events: {ready['events']}")
            if (user := recommender.example_user) is None:
                print(f"Ask: POST {url}/recommend; no log of users is open, every user is new.", flush=True)
            else:
                print(f"Ask: {example_request(url, user)}", flush=True)

        app = create_app(recommender, max_body=max_body, admin=admin)
        run_server(app, listening, on_ready=say)
    if not as_json:
        print(f"Stopped. The next log: slatewise data import {ready['events']}", file=sys.stderr)
