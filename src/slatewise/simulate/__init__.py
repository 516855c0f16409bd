"""A policy in a simulated world: what it earns, with standard errors, and the log it leaves behind."""

from slatewise.simulate.fitted import Judged, judge_fit
from slatewise.simulate.playing import Figure, Played, play_episodes
from slatewise.simulate.recording import Recorder, recording
from slatewise.simulate.worlds import PRIVILEGED, Served, World, check_catalog, open_world, served, worlds

__all__ = [
    "PRIVILEGED",
    "Figure",
    "Judged",
    "Played",
    "Recorder",
    "Served",
    "World",
    "check_catalog",
    "judge_fit",
    "open_world",
    "play_episodes",
    "recording",
    "served",
    "worlds",
]
