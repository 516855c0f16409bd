"""The commands. Exit code 0: done, 1: failed, 2: unusable input, 130 or 143: stopped by SIGINT or SIGTERM.

Messages go to stderr, answers to stdout.
"""

from __future__ import annotations

import os
import sys
import warnings

# Idle threads must sleep: spinning ones slow training four times and more as soon as anything else runs. Read by OpenMP
# when torch is imported, so it must stand before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from slatewise.errors import InputError, Notice, SlatewiseError

app = typer.Typer(
    name="slatewise",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recommendation policies by reinforcement learning: from a log to served slates with exact propensities.",
)


@app.callback()
def _group() -> None:
    """A group even while it has one command."""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """A notice in its own words on stderr; any other warning with its place, as Python prints it."""
    del file
    text = f"Note: {message}\n"
    if not issubclass(category, Notice):
        text = warnings.formatwarning(message, category, filename, lineno, line)
    sys.stderr.write(text)


def main() -> None:
    """Run the command line; every error that a user can act on ends as one message and an exit code."""
    from slatewise.cli import commands
    from slatewise.cli._interrupts import Interrupted, raising_signals

    warnings.showwarning = _show_warning
    try:
        with raising_signals():
            commands.register(app)
            app()
    except Interrupted as interrupted:
        print(interrupted.message, file=sys.stderr)
        sys.exit(interrupted.exit_code)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except SlatewiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
