"""Slates for many users at once, into a file: what the service would answer, for a mailing or a nightly table.

Users are taken in chunks. Each chunk is a file of its own until all are there: a stopped run goes on where it was and
ends with the same file, and memory holds one chunk at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from pyarrow import csv
from torch import Generator, Tensor, nn

from slatewise.artifact import Artifact
from slatewise.data import batches
from slatewise.data.catalogs import catalog_version, with_items_of
from slatewise.data.prepared import Dataset
from slatewise.errors import input_error
from slatewise.files import atomic_file
from slatewise.log import FIRST_ITEM, PAD, Windows
from slatewise.logged_requests import ItemLists
from slatewise.ops.history import history_of
from slatewise.seeds import stream_seed
from slatewise.types import Exploration, Observation, SlateRequest, Slates
from slatewise.wording import count_of

CHUNK = 8192
"""Users whose slates are held in memory at once."""
MOST_NUMBERS = 1 << 24
"""Scores that are held at once: 64 MB of float32."""
MOST_ROWS = 1 << 18
"""Rows of histories that are read at once."""
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("position", pa.int32()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("score", pa.float32()),
        ("logp", pa.float32()),
    ]
)
"""`score` is log π(item | state) of one draw from the whole catalog; `logp` is the log-propensity of the position."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who gets a slate."""

    names: pa.StringArray
    """Each once."""
    context: Float[np.ndarray, "U X"] | None = None
    """What is observed of each, the features of users after the context; None where the policy reads neither."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which conditions slates are drawn; item numbers are those of the policy's catalog."""

    k: int
    exploration: Exploration | None = None
    """None: the best items are shown, with certainty."""
    exclude_seen: bool = True
    candidates: Int[np.ndarray, "C"] | None = None
    """For everybody; None = the whole catalog."""
    allowed: Bool[np.ndarray, "rows"] | None = None
    """True for the item numbers that may be shown, beside the candidates; None = all."""
    exclude: Int[np.ndarray, "E"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """For everybody."""
    exclude_of_user: ItemLists | None = None
    """Further ones of each user of the audience."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a file of slates holds."""

    users: int
    rows: int
    unknown_users: int
    """Whom the log does not know: they are served by what the policy does for an unknown user."""
    short_slates: int
    """Users for whom fewer than k items were left."""
    unmatched_items: int
    """Items of the log's catalog that the policy does not know: it reads them as unknown items."""

    def notes(self, k: int) -> list[str]:
        """What a reader of the file should know, in words."""
        sentences = {
            f"{count_of(self.unknown_users, 'user')} not in the log: what an unknown user gets": self.unknown_users,
            f"{count_of(self.short_slates, 'user')} with fewer than {k} items: no more were left": self.short_slates,
            f"{count_of(self.unmatched_items, 'item')} of the log unknown to the policy": self.unmatched_items,
        }
        return [sentence for sentence, number in sentences.items() if number]


class SlateWriter:
    """A policy and the log that its users' histories come from."""

    def __init__(self, artifact: Artifact, dataset: Dataset) -> None:
        """Match the items of the log with those of the policy.

        Args:
            artifact: the policy and its catalog.
            dataset: the log; a newer one than the policy was trained on will do.
        """
        if isinstance(artifact.policy, nn.Module):
            artifact.policy.eval()
        self._artifact, self._dataset = artifact, dataset
        self._log, self._unmatched_items = with_items_of(dataset, artifact.catalog)
        self._max_history = artifact.config.evaluate.max_history

    def write(
        self,
        out: Path,
        audience: Audience,
        conditions: Conditions,
        *,
        overwrite: bool = False,
        on_users: Callable[[int], None] = lambda users: None,
    ) -> Summary:
        """Write a slate for every user, one row a position; goes on with what a stopped run of the same left.

        Args:
            out: a name that ends in .parquet or .csv.
            audience: who gets a slate.
            conditions: of all slates.
            overwrite: replace a file that is there.
            on_users: called with the number of users done: first with that of a stopped run, then after each chunk.

        Raises:
            InputError: another kind of file, a file that is there, a stopped run of other settings, or k that the
                catalog or the exploration does not allow.
        """
        self._check(out, conditions, overwrite=overwrite)
        parts = out.with_name(f".{out.name}.parts")
        self._begin(parts, self._settings(audience, conditions), overwrite=overwrite)
        number = self._dataset.users.encode(audience.names)
        starts = range(0, len(audience.names), CHUNK)
        files = [parts / f"{start // CHUNK:06d}.parquet" for start in starts]
        on_users(min(sum(file.is_file() for file in files) * CHUNK, len(audience.names)))
        for start, file in zip(starts, files, strict=True):
            if file.is_file():
                continue
            stop = min(start + CHUNK, len(audience.names))
            rows = self._rows(audience, conditions, number, slice(start, stop))
            with atomic_file(file) as temporary:
                pq.write_table(rows, temporary)
            on_users(stop)
        rows, whole_slates = _join(files, out, conditions.k)
        shutil.rmtree(parts)
        return Summary(
            users=len(audience.names),
            rows=rows,
            unknown_users=int((number < 0).sum()),
            short_slates=len(audience.names) - whole_slates,
            unmatched_items=self._unmatched_items,
        )

    @torch.inference_mode()
    def states(self, audience: Audience) -> Iterator[Float[Tensor, "C D"]]:
        """The states that slates are chosen from, of one chunk of the audience after the other."""
        number = self._dataset.users.encode(audience.names)
        for start in range(0, len(audience.names), CHUNK):
            user = number[start : start + CHUNK]
            context = None if audience.context is None else audience.context[start : start + CHUNK]
            states = torch.zeros(len(user), self._artifact.policy.encoder.width)
            for rows in self._batches(user):
                states[rows] = self._states(user[rows], None if context is None else context[rows])[1].to(states.dtype)
            yield states

    def _check(self, out: Path, conditions: Conditions, *, overwrite: bool) -> None:
        if out.suffix not in (".parquet", ".csv"):
            raise input_error(f'"{out.name}" is not a name of slates (expected NAME.parquet or NAME.csv)', file=out)
        if out.is_dir() or (out.exists() and not overwrite):
            raise input_error("it is there already", file=out, advice="--overwrite replaces it, --out names another.")
        items = self._artifact.catalog.num_items
        if not 1 <= conditions.k <= items:
            raise input_error(f"k is {conditions.k}; expected 1 to {items:,}, the size of the catalog")
        if conditions.exploration is not None and conditions.exploration.top_m < conditions.k:
            raise input_error(f"top_m is {conditions.exploration.top_m}; expected at least k = {conditions.k}")

    def _settings(self, audience: Audience, conditions: Conditions) -> str:
        """Digest of everything that the slates depend on."""
        digest = hashlib.sha256()
        exploration = None if conditions.exploration is None else asdict(conditions.exploration)
        lists = conditions.exclude_of_user
        plain = [self._artifact.version, self._dataset.fingerprint, catalog_version(audience.names), CHUNK, exploration]
        digest.update(json.dumps([*plain, conditions.k, conditions.exclude_seen, conditions.seed]).encode())
        arrays = [conditions.candidates, conditions.allowed, conditions.exclude, audience.context]
        arrays += [None, None] if lists is None else [lists.offsets, lists.item]
        for array in arrays:
            digest.update(b"-" if array is None else hashlib.sha256(array.tobytes()).digest())
        return digest.hexdigest()

    def _begin(self, parts: Path, settings: str, *, overwrite: bool) -> None:
        """A folder for the chunks; one that is there must belong to the same settings."""
        file = parts / "settings"
        if file.is_file() and file.read_text(encoding="utf-8") != settings and not overwrite:
            raise input_error(
                "a stopped run of other settings left its slates here",
                file=parts,
                advice="Run it again as it was, or start over with --overwrite.",
            )
        if not file.is_file() or file.read_text(encoding="utf-8") != settings:
            shutil.rmtree(parts, ignore_errors=True)
            parts.mkdir(parents=True)
            file.write_text(settings, encoding="utf-8")

    @torch.inference_mode()
    def _rows(self, audience: Audience, conditions: Conditions, number: Int[np.ndarray, "U"], chunk: slice) -> pa.Table:
        """The rows of one chunk of users, in the order of the audience."""
        user = number[chunk]
        context = None if audience.context is None else audience.context[chunk]
        generator = Generator().manual_seed(stream_seed(conditions.seed, chunk.start // CHUNK))
        items = torch.full((len(user), conditions.k), PAD)
        score, logp = torch.zeros(items.shape), torch.zeros(items.shape)
        for rows in self._batches(user):
            used, state = self._states(user[rows], None if context is None else context[rows])
            request = self._request(conditions, rows + chunk.start, used)
            slates: Slates = self._artifact.policy.recommend(state, request, generator=generator)
            items[rows], logp[rows] = slates.items, slates.logp.float()
            score[rows] = self._artifact.policy.log_pi(state, slates.items).float()
        shown = items >= FIRST_ITEM
        place = shown.nonzero().numpy()
        catalog, item = self._artifact.catalog, items[shown].numpy()
        return pa.table(
            {
                "user_id": audience.names.slice(chunk.start, len(user)).take(pa.array(place[:, 0])),
                "position": pa.array(place[:, 1].astype(np.int32)),
                "item_id": catalog.vocabulary.names.take(pa.array(item - FIRST_ITEM)),
                "title": pa.array([catalog.text[number] for number in item.tolist()], pa.string()),
                "score": pa.array(score[shown].numpy()),
                "logp": pa.array(logp[shown].numpy()),
            },
            schema=SCHEMA,
        )

    def _batches(self, user: Int[np.ndarray, "B"]) -> Iterator[Int[np.ndarray, "b"]]:
        """Places of users whose histories are of like length, as many as memory allows."""
        offsets = np.append(np.asarray(self._log.user_offsets), 0)  # −1, an unknown user, has no event
        length = np.where(user < 0, 0, offsets[user + 1] - offsets[user])
        order = np.argsort(length, kind="stable")
        most = max(1, MOST_NUMBERS // self._artifact.catalog.num_rows)
        start = 0
        while start < len(order):
            stop = min(start + most, len(order))
            while stop - start > 1 and (stop - start) * length[order[stop - 1]] * self._log.slate_size > MOST_ROWS:
                stop = start + (stop - start) // 2
            yield order[start:stop]
            start = stop

    def _states(
        self, user: Int[np.ndarray, "B"], context: Float[np.ndarray, "B X"] | None
    ) -> tuple[Int[Tensor, "B Y"], Float[Tensor, "B D"]]:
        """Items that each user has used, 0-padded, and the state after all that is logged of them."""
        encoder = self._artifact.policy.encoder
        width = self._log.context_width if context is None else context.shape[1]
        observed = torch.zeros(len(user), width) if context is None else torch.from_numpy(context)
        observation = Observation(user=torch.from_numpy(user), context=observed)
        state = encoder.state(encoder.initial(len(user)), observation)
        logged = np.flatnonzero(user >= 0)
        if not len(logged):
            return torch.zeros(len(user), 0, dtype=torch.int64), state
        offsets = np.asarray(self._log.user_offsets)
        count = (offsets[1:] - offsets[:-1])[user[logged]]
        nothing = np.zeros_like(count)
        every = batches.trajectories(self._log, Windows(user=user[logged], start=nothing, learn=nothing, stop=count))
        items = history_of(every).uses.item
        used = torch.zeros(len(user), items.shape[1], dtype=torch.int64)
        used[logged] = items
        start = np.maximum(count - self._max_history, 0)
        recent = batches.trajectories(self._log, Windows(user=user[logged], start=start, learn=start, stop=count))
        last, row = torch.from_numpy(count - start), torch.arange(len(logged))
        observed_last = recent.context.clone()
        observed_last[row, last] = observed[logged]
        state[logged] = encoder(recent.replace(context=observed_last))[row, last]
        return used, state

    def _request(self, conditions: Conditions, place: Int[np.ndarray, "B"], used: Int[Tensor, "B Y"]) -> SlateRequest:
        """The conditions of some users of the audience."""
        common = torch.from_numpy(conditions.exclude).expand(len(place), -1)
        exclude = [common, used] if conditions.exclude_seen else [common]
        if conditions.exclude_of_user is not None:
            lists = [torch.from_numpy(conditions.exclude_of_user.of(int(user))) for user in place]
            exclude.append(nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=PAD))
        candidates = conditions.candidates
        return SlateRequest(
            k=conditions.k,
            exploration=conditions.exploration,
            exclude=torch.cat(exclude, dim=1),
            candidates=None if candidates is None else torch.from_numpy(candidates).expand(len(place), -1),
            allowed=None if conditions.allowed is None else torch.tensor(conditions.allowed),
        )


def _join(files: list[Path], out: Path, k: int) -> tuple[int, int]:
    """Write the chunks into one file; the number of rows, and of users with k of them."""
    rows = whole = 0
    with atomic_file(out) as temporary:
        to_csv = out.suffix == ".csv"
        with csv.CSVWriter(temporary, SCHEMA) if to_csv else pq.ParquetWriter(temporary, SCHEMA) as writer:
            for file in files:
                table = pq.read_table(file)
                writer.write_table(table)
                rows += table.num_rows
                whole += int(np.count_nonzero(table["position"].to_numpy() == k - 1))
    return rows, whole
