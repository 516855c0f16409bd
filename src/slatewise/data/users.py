"""Features of users in a data set, and on the scales of a policy."""

from __future__ import annotations

from dataclasses import replace

from slatewise.data import prepared
from slatewise.data.prepared import Dataset
from slatewise.data.reading.user_files import UserColumns, encode_users, fit_users
from slatewise.user_file import UserTable


def add_user_columns(dataset: Dataset, columns: UserColumns) -> tuple[Dataset, tuple[str, ...]]:
    """Put a table of users into a data set, in place; and what to know of it.

    Features that are there stay on their scales, and of users in both tables the new values count.

    Raises:
        InputError: no column describes the users.
    """
    if dataset.user_table is None:
        table, notes = fit_users(columns), columns.notes
    else:
        encoded, notes = encode_users(columns, dataset.user_table.scales)
        table = dataset.user_table.joined_by(encoded)
    described = ", ".join(
        f"{name} ({len(categories)} values)" if categories else name for name, categories in table.columns().items()
    )
    missing = int((table.users.encode(dataset.users.names) < 0).sum())
    account = f"{columns.file.name}: {len(columns.names):,} users with {described}"
    without = f"; {missing:,} of {len(dataset.users):,} users of the log have no features" if missing else ""
    notes = (f"{account}{without}.", *notes)
    return prepared.add_users(dataset.path, table, notes=notes), notes


def with_users_of(dataset: Dataset, users: UserTable | None) -> Dataset:
    """A log with the features of users that a policy reads, on its scales; without any for a policy that reads none.

    Args:
        dataset: the log; what it says of users counts before what the policy knows.
        users: of the policy.
    """
    table = users if users is None or dataset.user_table is None else users.joined_by(dataset.user_table)
    features = None if table is None else table.of(dataset.users.names)
    return replace(dataset, user_table=table, interactions=replace(dataset.interactions, user_features=features))
