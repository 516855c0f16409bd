"""The one loop: batches → update → validate → checkpoint (resumable)."""

from slatewise.training.checkpoint import Progress
from slatewise.training.judging import FinishedRun, fitted_behaviour, judge, open_run
from slatewise.training.loop import Result, train
from slatewise.training.run import Config, Run, lay_out

__all__ = [
    "Config",
    "FinishedRun",
    "Progress",
    "Result",
    "Run",
    "fitted_behaviour",
    "judge",
    "lay_out",
    "open_run",
    "train",
]
