"""An index in the life of a policy: fitted at the end of training, kept in the artifact, used by whatever opens it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from slatewise import artifact
from slatewise.artifact import INDEX
from slatewise.config.run import RunConfig
from slatewise.errors import InputError, Notice
from slatewise.files import sha256
from slatewise.log import FIRST_ITEM
from slatewise.policies.ranked import LEAST_CANDIDATES, RankedPolicy
from slatewise.retrieval.approximate import Approximate
from slatewise.retrieval.approximate import Config as IndexConfig
from slatewise.testing import toy_catalog, toy_dataset
from slatewise.training.loop import Result, train
from slatewise.training.new_items import score_items_of
from slatewise.types import Exploration, SlateRequest

ITEMS = 2000
"""Fifty lists of 39 items or more."""


def tables(data: Path, method: str = "cloning", **retrieval: Any) -> dict[str, Any]:
    return {
        "data": {"path": str(data)},
        "method": {"name": method},
        "train": {"epochs": 1, "batch_size": 8, "select": "ndcg@5"},
        "retrieval": {"index": "approximate", **retrieval},
        "evaluate": {"k": [5]},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    toy_dataset(folder, catalog=toy_catalog(ITEMS))
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train(RunConfig.from_tables(tables(data)), folder)


def opened(folder: Path) -> RankedPolicy:
    policy = artifact.load(folder / "artifact").policy
    assert isinstance(policy, RankedPolicy)
    return policy


def test_training_tunes_an_index_and_says_what_it_finds(data: Path, run: tuple[Path, Result]) -> None:
    folder, result = run
    manifest = artifact.read_manifest(folder / "artifact")
    recall = manifest.metrics["retrieval_recall@100"]
    assert recall >= 0.95
    [note] = [note for note in result.notes if note.startswith("an index finds")]
    index = opened(folder).retriever
    assert isinstance(index, Approximate)
    assert note == f"an index finds {recall:.1%} of the 100 best items on 24 states, reading {index.probes} of 51 lists"
    assert len(index) == ITEMS
    again = train(RunConfig.from_tables(tables(data)), folder, resume=True)
    assert again.notes == result.notes


def test_a_policy_with_an_index_scores_no_more_than_its_candidates(
    run: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = opened(run[0])
    widths = []
    original = type(policy).scores

    def scores(self: RankedPolicy, state: Tensor, items: Tensor | None) -> Tensor:
        assert items is not None, "the whole catalog was scored"
        widths.append(items.shape[1])
        return original(self, state, items)

    monkeypatch.setattr(type(policy), "scores", scores)
    state = torch.randn(6, policy.encoder.width, generator=Generator().manual_seed(0))
    exclude = torch.zeros(6, 30, dtype=torch.int64)
    exclude[0] = torch.arange(FIRST_ITEM, FIRST_ITEM + 30)
    request = SlateRequest(k=5, exclude=exclude, exploration=Exploration(top_m=40, keep=2, temperature=1.0))
    slates = policy.recommend(state, request, generator=Generator().manual_seed(1))
    assert torch.equal(policy.log_prob(state, slates.items, request), slates.logp)
    assert max(widths) <= LEAST_CANDIDATES + 30


def test_propensities_do_not_depend_on_who_else_is_in_the_batch(run: tuple[Path, Result]) -> None:
    policy = opened(run[0])
    state = torch.randn(8, policy.encoder.width, generator=Generator().manual_seed(2))
    exclude = torch.zeros(8, 400, dtype=torch.int64)
    exclude[0] = torch.arange(FIRST_ITEM, FIRST_ITEM + 400)
    exploration = Exploration(top_m=150, keep=1, temperature=2.0)
    together = policy.recommend(
        state, SlateRequest(k=4, exclude=exclude, exploration=exploration), generator=Generator().manual_seed(3)
    )
    for user in range(8):
        own = exclude[user : user + 1, : 400 if user == 0 else 0]
        alone = SlateRequest(k=4, exclude=own, exploration=exploration)
        logp = policy.log_prob(state[user : user + 1], together.items[user : user + 1], alone)
        torch.testing.assert_close(logp, together.logp[user : user + 1])
    assert not bool(torch.isin(together.items[0], exclude[0]).any())


def test_more_exclusions_than_candidates_and_no_item_left(run: tuple[Path, Result]) -> None:
    policy = opened(run[0])
    state = torch.randn(1, policy.encoder.width, generator=Generator().manual_seed(4))
    everything = torch.arange(FIRST_ITEM, FIRST_ITEM + ITEMS).unsqueeze(0)
    left = policy.recommend(state, SlateRequest(k=3, exclude=everything[:, :-2])).items
    assert sorted(left[0].tolist()) == [0, FIRST_ITEM + ITEMS - 2, FIRST_ITEM + ITEMS - 1]
    assert policy.recommend(state, SlateRequest(k=3, exclude=everything)).items.tolist() == [[0, 0, 0]]


def copied(run: Path, folder: Path, **index: Tensor) -> Path:
    """The run with another index, and a manifest that believes in it."""
    shutil.copytree(run / "artifact", folder / "artifact")
    file = folder / "artifact" / INDEX
    save_file(load_file(file) | index, file)
    manifest = json.loads((folder / "artifact" / "manifest.json").read_text("utf-8"))
    manifest["files"][INDEX] = sha256(file)
    (folder / "artifact" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def test_an_index_that_was_changed_cut_or_is_of_another_run(run: tuple[Path, Result], tmp_path: Path) -> None:
    whole = copied(run[0], tmp_path / "whole")
    assert len(opened(whole).index_arrays()["ids"]) == ITEMS
    file = whole / "artifact" / INDEX
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{INDEX}: its SHA-256 is not the one in manifest.json"):
        opened(whole)
    file.unlink()
    with pytest.raises(InputError, match=f"{INDEX}: the file is missing"):
        opened(whole)
    ids = load_file(run[0] / "artifact" / INDEX)["ids"]
    with pytest.raises(InputError, match=f"{INDEX}: the index does not fit the policy: it holds items up to 2011 by"):
        opened(copied(run[0], tmp_path / "other", ids=ids + 10))


def test_items_that_an_index_does_not_hold_are_added_to_it(run: tuple[Path, Result]) -> None:
    policy = opened(run[0])
    index = policy.retriever
    assert isinstance(index, Approximate)
    index.remove(torch.tensor([FIRST_ITEM, FIRST_ITEM + 7]))
    policy.load_index(policy.index_arrays())
    assert sorted(policy.index_arrays()["ids"].tolist()) == list(range(FIRST_ITEM, FIRST_ITEM + ITEMS))


def test_new_items_join_the_index_that_training_tuned(data: Path, tmp_path: Path) -> None:
    settings = tables(data, recall=0.999) | {"items": {"content": ["text"]}}
    train(RunConfig.from_tables(settings), tmp_path / "run")
    loaded = artifact.load(tmp_path / "run" / "artifact")
    assert isinstance(loaded.policy, RankedPolicy)
    larger, num_new = score_items_of(loaded, toy_catalog(ITEMS + 5))
    assert num_new == 5
    assert isinstance(larger.policy, RankedPolicy)
    tuned, index = loaded.policy.retriever, larger.policy.retriever
    assert isinstance(tuned, Approximate)
    assert isinstance(index, Approximate)
    assert (index.lists, index.probes) == (tuned.lists, tuned.probes)
    assert index.probes != IndexConfig().probes, "else an index built anew would look the same"
    assert sorted(larger.policy.index_arrays()["ids"].tolist()) == list(range(FIRST_ITEM, FIRST_ITEM + ITEMS + 5))


def test_a_large_catalog_without_an_index_gets_one_and_is_told(data: Path, tmp_path: Path) -> None:
    train(RunConfig.from_tables(tables(data, index="auto")), tmp_path / "run")
    assert not (tmp_path / "run" / "artifact" / INDEX).exists()
    config = tmp_path / "run" / "artifact" / "config.toml"
    config.write_text(config.read_text("utf-8").replace("exact_up_to = 200000", "exact_up_to = 1000"), "utf-8")
    manifest = json.loads((tmp_path / "run" / "artifact" / "manifest.json").read_text("utf-8"))
    manifest["files"]["config.toml"] = sha256(config)
    (tmp_path / "run" / "artifact" / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.warns(Notice, match="has no index for its large catalog: one was built"):
        policy = opened(tmp_path / "run")
    assert len(policy.index_arrays()["ids"]) == ITEMS
    command = [sys.executable, "-m", "slatewise.cli", "evaluate", str(tmp_path / "run")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert said.startswith(f"Note: {tmp_path / 'run' / 'artifact'} has no index for its large catalog: one was built")


def test_a_recall_that_cannot_be_reached_is_said(data: Path, tmp_path: Path) -> None:
    result = train(RunConfig.from_tables(tables(data, recall=1.0)), tmp_path / "run")
    recall = artifact.read_manifest(tmp_path / "run" / "artifact").metrics["retrieval_recall@100"]
    [note] = [note for note in result.notes if note.startswith("an index finds")]
    # 8 bits a number cannot tell the hundredth item from the next one everywhere
    assert recall < 1
    assert "reading 51 of 51 lists; 100.0% cannot be reached ([retrieval] index = " in note


def test_counts_need_no_index(data: Path, tmp_path: Path) -> None:
    settings = tables(data, "popularity")
    settings["train"] = {"select": "ndcg@5"}
    result = train(RunConfig.from_tables(settings), tmp_path / "run")
    assert not (tmp_path / "run" / "artifact" / INDEX).exists()
    assert "popularity finds its items without an index: [retrieval] does nothing here" in result.notes
