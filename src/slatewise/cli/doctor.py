"""slatewise doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from slatewise.cli._console import JsonFlag, answer

HELP = """Check the installation and the machine: versions, cores, memory, folders, missing packages.

A missing package is reported with the command that installs it. Exit code 0 if everything required is present, else 1;
warnings and optional packages do not count. Without --network no request leaves this machine.

Example: slatewise doctor --network
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", help=HELP)(doctor)


def doctor(
    network: Annotated[bool, typer.Option("--network", help="Ask pip's package index whether it answers.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check; see HELP."""
    from dataclasses import asdict

    from slatewise import machine
    from slatewise.cli._checkup import checkup

    facts = machine.facts()
    findings = checkup(facts, network=network)
    missing = [finding for finding in findings if finding.state == "missing"]
    value = {
        "ok": not missing,
        "commit": machine.commit(),
        "machine": asdict(facts),
        "findings": [asdict(finding) for finding in findings],
    }
    width = max(len(finding.name) for finding in findings)
    lines = []
    for group in dict.fromkeys(finding.group for finding in findings):
        lines += ["", group]
        for finding in findings:
            if finding.group == group:
                mark = "MISSING" if finding.state == "missing" else finding.state
                lines.append(f"  {mark:<8}  {finding.name:<{width}}  {finding.value}".rstrip())
                lines += [f"  {'':<8}  {'':<{width}}  → {finding.advice}"] if finding.advice else []
    names = ", ".join(finding.name for finding in missing)
    lines += ["", f"Missing: {names}." if missing else "Everything required is present."]
    answer(value, as_json=as_json, text="\n".join(lines[1:]))
    if missing:
        raise typer.Exit(1)
