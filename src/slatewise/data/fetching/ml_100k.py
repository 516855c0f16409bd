"""MovieLens 100K: users' ratings of films, with titles, years and genres."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slatewise.data.fetching.download import Archive, Source, Wheel
from slatewise.data.fetching.recipe import Options, Recipe


def _sources(options: Options) -> Sequence[Source]:
    del options
    inside = "recbole/dataset_example/ml-100k"
    return (
        Wheel(
            project="recbole",
            version="1.2.1",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            members={name: f"{inside}/{name}" for name in ("ml-100k.inter", "ml-100k.item", "ml-100k.user")},
        ),
        Archive(
            url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            members={name: f"ml-100k/{name}" for name in ("u.data", "u.item", "u.user", "u.genre")},
        ),
    )


def _tables(folder: Path, options: Options) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings and films. The wheel's ratings are those of the archive, byte for byte, below a header."""
    del options
    archive = (folder / "u.data").is_file()
    ratings = pl.read_csv(
        folder / ("u.data" if archive else "ml-100k.inter"),
        separator="\t",
        has_header=False,
        skip_rows=0 if archive else 1,
        new_columns=["user_id", "item_id", "reward", "timestamp"],
        schema_overrides=[pl.String, pl.String, pl.Float32, pl.Int64],
        quote_char=None,
    )
    frame = ratings.with_columns(pl.col("timestamp") * 1_000_000)
    films = _archive_films(folder) if archive else _wheel_films(folder)
    # most titles in the wheel lack their year, which has a column of its own
    named = pl.col("year").str.contains(r"^\d{4}$") & ~pl.col("text").str.contains(r"\(\d{4}\)")
    text = pl.when(named).then(pl.format("{} ({})", "text", "year")).otherwise("text")
    year = text.str.extract(r"\((\d{4})\)").cast(pl.Float64).alias("feature_year")
    labels = pl.col("labels").list.eval(pl.element().filter(pl.element() != "unknown"))
    return frame, films.select("item_id", text.alias("text"), labels, year)


def _wheel_films(folder: Path) -> pl.DataFrame:
    table = pl.read_csv(
        folder / "ml-100k.item",
        separator="\t",
        has_header=False,
        skip_rows=1,
        new_columns=["item_id", "text", "year", "genres"],
        schema_overrides=[pl.String] * 4,
        quote_char=None,
    )
    return table.with_columns(pl.col("genres").str.split(" ").alias("labels"))


def _archive_films(folder: Path) -> pl.DataFrame:
    genres = [
        line.split("|")[0] for line in (folder / "u.genre").read_text(encoding="latin-1").splitlines() if line.strip()
    ]
    rows = [line.split("|") for line in (folder / "u.item").read_text(encoding="latin-1").splitlines() if line.strip()]
    return pl.DataFrame(
        {
            "item_id": [row[0] for row in rows],
            "text": [row[1] for row in rows],
            "year": [""] * len(rows),
            "labels": [[genre for genre, flag in zip(genres, row[5:], strict=True) if flag == "1"] for row in rows],
        }
    )


RECIPE = Recipe(
    name="ml-100k",
    title="MovieLens 100K: ratings of films, collected by GroupLens at the University of Minnesota, 1997–1998",
    kind="uses",
    licence=(
        "for research. You may not state or imply that the University of Minnesota or GroupLens endorses your "
        "work, must acknowledge the data set in publications, may not redistribute it without permission, and may "
        "not use it commercially without permission of GroupLens. Full text: "
        "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt"
    ),
    citation=(
        "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM "
        "Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
    ),
    sources=_sources,
    tables=_tables,
)
