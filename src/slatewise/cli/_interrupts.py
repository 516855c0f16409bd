"""SIGINT (Ctrl-C) and SIGTERM: a command cleans up, says what is kept and how to go on; exit code 130, 143."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the command to stop; no `except Exception` holds it up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self.message = "Interrupted."
        """What a user should know."""


@contextmanager
def raising_signals() -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM raises `Interrupted`; a second one ends the process at once.

    A signal that the process was started to ignore (`nohup`, a job in the background) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    for number in heeded:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heeded:
            signal.signal(number, handlers[number])


@contextmanager
def explaining(message: Callable[[], str]) -> Iterator[None]:
    """Within the block, `Interrupted` carries a message that says what a stop leaves behind."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        # libraries that watch for Ctrl-C themselves raise a KeyboardInterrupt
        interrupted = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        interrupted.message = message()
        raise interrupted from None


def nothing_written() -> str:
    """What to say where a stop leaves everything as it was."""
    return "Interrupted: nothing was written."


def command_again(*additions: str, without: Collection[str] = ()) -> str:
    """The command line of this process, to be typed again.

    Args:
        additions: options to add where they are not there yet.
        without: options to leave out.
    """
    words = [word for word in sys.argv[1:] if word not in without]
    return shlex.join(["slatewise", *words, *(option for option in additions if option not in words)])
