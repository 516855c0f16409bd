"""Logs: files of many kinds → one prepared data set on disk → splits and batches of trajectories."""

from slatewise.data.manifest import Kind, Provenance
from slatewise.data.preparation import prepare
from slatewise.data.prepared import Dataset, load, write
from slatewise.data.reading.importing import Options, Report, import_path

__all__ = ["Dataset", "Kind", "Options", "Provenance", "Report", "import_path", "load", "prepare", "write"]
