"""Features of users as a table and as a file: user_features.parquet of a data set, users.parquet of an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from slatewise.features import FeatureScale, rescale
from slatewise.log import Vocabulary

IN = "="
"""Between a column and one of its categories in the name of a feature: "country=fr" is 1 for users from France."""


@dataclass(frozen=True, kw_only=True)
class UserTable:
    """What is known of users besides their events; users without events may be among them."""

    users: Vocabulary
    """``first`` = 0, −1 for an unknown user."""
    values: Float[np.ndarray, "N G"]
    """Standardised; 0, the mean, where a value is unknown."""
    scales: tuple[FeatureScale, ...]

    @property
    def width(self) -> int:
        """G."""
        return len(self.scales)

    def of(self, names: pa.StringArray) -> Float[np.ndarray, "U G"]:
        """Features of users; of a user who is not in the table, 0."""
        number = self.users.encode(names)
        return np.where(number[:, None] >= 0, self.values[np.maximum(number, 0)], np.float32(0.0))

    def row(self, name: str) -> Float[np.ndarray, "G"]:
        """Features of one user; of one who is not in the table, 0."""
        number = self.users.number(name)
        return self.values[number] if number >= 0 else np.zeros(self.width, np.float32)

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Columns that the features come from: name → categories, none for a column of numbers."""
        columns: dict[str, tuple[str, ...]] = {}
        for scale in self.scales:
            column, found_category, category = scale.name.partition(IN)
            columns[column] = (*columns.get(column, ()), category) if found_category else ()
        return columns

    def encode(self, values: Mapping[str, float | str]) -> dict[int, float]:
        """Standardised features of one user by their places.

        Args:
            values: column → number or category.

        Raises:
            ValueError: a column that is not there, a category that was never met, or text for a number.
        """
        columns, result = self.columns(), {}
        for name, value in values.items():
            if name not in columns:
                raise ValueError(f'no feature "{name}"; there are: {", ".join(columns)}')
            categories = columns[name]
            if categories and value not in categories:
                raise ValueError(f'"{value}" is no value of {name}; there are: {", ".join(categories[:20])}')
            if not categories and isinstance(value, str):
                raise ValueError(f'"{value}" is no number; {name} is one')
            for place, scale in enumerate(self.scales):
                if scale.name.partition(IN)[0] == name:
                    raw = float(scale.name == f"{name}{IN}{value}") if categories else float(value)
                    result[place] = (raw - scale.mean) / scale.deviation if scale.deviation > 0 else 0.0
        return result

    def joined_by(self, later: UserTable) -> UserTable:
        """The users of both, on the scales of this table; of users in both the later features count."""
        names = pa.concat_arrays([self.users.names, later.users.names])
        both = Vocabulary(names=names.unique(), first=0, unknown=-1)
        values = np.zeros((len(both), self.width), np.float32)
        values[both.encode(self.users.names)] = self.values
        values[both.encode(later.users.names)] = rescale(later.values, later.scales, self.scales)
        return UserTable(users=both, values=values, scales=self.scales)


def write_users(path: Path, table: UserTable) -> None:
    """Write a table of users as Parquet."""
    values = np.ascontiguousarray(table.values, dtype=np.float32)
    columns = {
        "user_id": table.users.names,
        "features": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), table.width),
    }
    scales = json.dumps([asdict(scale) for scale in table.scales])
    pq.write_table(pa.table(columns).replace_schema_metadata({"feature_scales": scales}), path)


def read_users(path: Path) -> UserTable:
    """Read the table that `write_users` wrote.

    Raises:
        ValueError: another file.
    """
    table = pq.read_table(path)
    if table.column_names != ["user_id", "features"] or b"feature_scales" not in (table.schema.metadata or {}):
        raise ValueError("it holds no features of users")
    scales = tuple(FeatureScale(**scale) for scale in json.loads(table.schema.metadata[b"feature_scales"]))
    features = table["features"].combine_chunks()
    return UserTable(
        users=Vocabulary(names=table["user_id"].combine_chunks(), first=0, unknown=-1),
        # a copy: what Arrow holds must not be written to
        values=features.flatten().to_numpy().reshape(len(table), len(scales)).copy(),
        scales=scales,
    )
