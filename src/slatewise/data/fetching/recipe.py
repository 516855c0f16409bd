"""Recipe of a public data set: sources, terms of use, and the meaning of its columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from slatewise.data.fetching.download import Source
from slatewise.data.prepared import Kind

Campaign = Literal["all", "men", "women"]
LoggingPolicy = Literal["both", "random", "bts"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The variant of a data set; used by obd-small only."""

    campaign: Campaign = "all"
    """The shop page; each has its own items."""
    policy: LoggingPolicy = "both"
    """The logging policy; "both" are in one data set, distinguished by policy_id and by the user names."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A public data set."""

    name: str
    title: str
    kind: Kind
    licence: str
    """Summary of the terms of use."""
    citation: str
    sources: Callable[[Options], Sequence[Source]]
    tables: Callable[[Path, Options], tuple[pl.DataFrame, pl.DataFrame]]
    """Files in a folder → canonical frame, item table."""
    options: tuple[str, ...] = ()
    """Names of the options that it has."""

    @property
    def terms(self) -> str:
        """The terms that a user must accept before the download."""
        return f"{self.title}\n\nTerms of use: {self.licence}\n\nPlease cite: {self.citation}"
