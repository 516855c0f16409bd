"""Which commands there are: one module of this folder each, with a function `register(app)`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, runtime_checkable

import typer


@runtime_checkable
class AddsCommands(Protocol):
    """A module of this folder that has commands to add."""

    def register(self, app: typer.Typer) -> None:
        """Add them."""


@functools.cache  # main() may be called again: a command is added once
def register(app: typer.Typer) -> None:
    """Let every module of the folder add its commands."""
    names = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    for name in sorted(names - {"commands"}):
        module = importlib.import_module(f"slatewise.cli.{name}")
        if isinstance(module, AddsCommands):
            module.register(app)
