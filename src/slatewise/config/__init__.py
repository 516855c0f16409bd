"""Components by name, and settings between TOML and frozen Configs. A run's whole configuration: `config.run`."""

from slatewise.config.components import DEFINES, components, find, name_of
from slatewise.config.sections import DataConfig, EvaluateConfig, RetrievalConfig, ServeConfig, SplitName, TrainConfig
from slatewise.config.tables import (
    convert,
    dump_toml,
    nested_configs,
    override,
    read_toml,
    sections,
    to_table,
    without_comments,
)

__all__ = [
    "DEFINES",
    "DataConfig",
    "EvaluateConfig",
    "RetrievalConfig",
    "ServeConfig",
    "SplitName",
    "TrainConfig",
    "components",
    "convert",
    "dump_toml",
    "find",
    "name_of",
    "nested_configs",
    "override",
    "read_toml",
    "sections",
    "to_table",
    "without_comments",
]
