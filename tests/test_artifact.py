from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from slatewise import artifact
from slatewise.catalog_file import read_catalog, write_catalog
from slatewise.config.run import Component, RunConfig
from slatewise.encoders import gru
from slatewise.errors import InputError
from slatewise.files import sha256
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.methods import cloning
from slatewise.testing import toy_catalog, toy_log

ENCODER = gru.Config(width=4, item_width=3, dropout=0.5, reward_edges=(2.0,), context_width=2)
CONFIG = RunConfig(
    method=Component(name="cloning", settings=cloning.Config(lr=0.5)), encoder=Component(name="gru", settings=ENCODER)
)


@dataclass(frozen=True, kw_only=True)
class Unwritable:
    """Settings that TOML cannot hold."""

    value: object = object()


@pytest.fixture
def policy() -> cloning.Policy:
    generator = Generator().manual_seed(0)
    encoder = gru.Encoder(ENCODER, toy_catalog(), generator=generator)
    return cloning.Policy(cloning.Config(lr=0.5), encoder, toy_catalog(), generator=generator)


@pytest.fixture
def saved(policy: cloning.Policy, tmp_path: Path) -> Path:
    path = tmp_path / "artifact"
    metrics, source = {"ndcg@10": 0.5}, artifact.Source(name="toy", fingerprint="f", simulated=True)
    artifact.save(path, policy=policy, catalog=toy_catalog(), config=CONFIG, metrics=metrics, source=source)
    return path


def test_what_is_saved_is_loaded(policy: cloning.Policy, saved: Path) -> None:
    loaded = artifact.load(saved)
    weights = loaded.policy.state_dict()
    assert weights.keys() == policy.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in policy.state_dict().items())
    assert loaded.config == CONFIG
    assert loaded.manifest.metrics == {"ndcg@10": 0.5}
    assert loaded.manifest.source == artifact.Source(name="toy", fingerprint="f", simulated=True)
    lines = [f"{name} {sha256(saved / name)}\n" for name in ("config.toml", "items.parquet", "weights.safetensors")]
    assert loaded.version == hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    assert sorted(path.name for path in saved.iterdir()) == [
        "config.toml", "items.parquet", "manifest.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_version_names_weights_items_and_settings(policy: cloning.Policy, tmp_path: Path) -> None:
    items = toy_catalog()
    names = items.vocabulary.names.to_pylist()
    swapped = Vocabulary(names=pa.array([*names[:-2], names[-1], names[-2]], pa.string()))

    def version(*, catalog: Catalog = items, config: RunConfig = CONFIG) -> str:
        artifact.save(
            tmp_path / "a", policy=policy, catalog=catalog, config=config, metrics={}, source=artifact.Source()
        )
        return artifact.load(tmp_path / "a").version

    first = version()
    assert version() == first
    reordered = version(catalog=Catalog(**{**_fields(items), "vocabulary": swapped}))
    rewarded = version(config=replace(CONFIG, serve=replace(CONFIG.serve, rewards={"click": 2.0})))
    with torch.no_grad():
        policy.head.bias.weight.add_(1.0)
    assert len({first, reordered, rewarded, version()}) == 4


def test_a_loaded_policy_is_ready_to_serve(policy: cloning.Policy, saved: Path) -> None:
    loaded = artifact.load(saved).policy
    assert isinstance(loaded, nn.Module)
    assert not any(part.training for part in loaded.modules())
    log = toy_log(toy_catalog())
    with torch.no_grad():
        assert torch.equal(loaded.encoder(log), policy.eval().encoder(log))


def test_saving_again_replaces_the_whole(policy: cloning.Policy, saved: Path) -> None:
    (saved / "stray").write_text("old", encoding="utf-8")
    with torch.no_grad():
        policy.head.bias.weight.fill_(3.0)
    artifact.save(saved, policy=policy, catalog=toy_catalog(), config=CONFIG, metrics={}, source=artifact.Source())
    assert not (saved / "stray").exists()
    assert float(artifact.load(saved).policy.state_dict()["head.bias.weight"][FIRST_ITEM]) == 3.0
    assert [path.name for path in saved.parent.iterdir()] == ["artifact"]


def test_a_save_that_fails_leaves_the_old_one(policy: cloning.Policy, saved: Path) -> None:
    before = {path.name: sha256(path) for path in saved.iterdir()}
    broken = replace(CONFIG, method=Component(name="cloning", settings=Unwritable()))
    with pytest.raises(TypeError):
        artifact.save(saved, policy=policy, catalog=toy_catalog(), config=broken, metrics={}, source=artifact.Source())
    assert {path.name: sha256(path) for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["artifact"]


def catalogs() -> dict[str, Catalog]:
    toy = toy_catalog(4)
    names = Vocabulary(names=pa.array(["zwölf", "", '"', "日本"], pa.string()))
    return {
        "plain": toy,
        "without features": Catalog(**{**_fields(toy), "features": np.zeros((6, 0), np.float32)}),
        "strange names": Catalog(**{**_fields(toy), "vocabulary": names, "text": ("", "", "a\nb", "", "c", "日")}),
        # the order of groups is no order of words, and nothing belongs to one of them
        "groups": Catalog(
            **{
                **_fields(toy),
                "group_names": ("", "topic-10", "topic-9", "none"),
                "group": np.array([0, 0, 2, 1, 0, 2]),
            }
        ),
        "empty": toy_catalog(0),
    }


def _fields(catalog: Catalog) -> dict[str, Any]:
    return {name: getattr(catalog, name) for name in Catalog.__dataclass_fields__}


@pytest.mark.parametrize("name", catalogs())
def test_a_catalog_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    catalog = catalogs()[name]
    write_catalog(tmp_path / "items.parquet", catalog)
    found = read_catalog(tmp_path / "items.parquet")
    assert found.vocabulary.names.to_pylist() == catalog.vocabulary.names.to_pylist()
    assert (tuple(found.text), found.group_names) == (tuple(catalog.text), catalog.group_names)
    assert found.group.tolist() == catalog.group.tolist()
    np.testing.assert_array_equal(found.features, catalog.features)
    assert found.features.dtype == np.float32


def reseal(path: Path) -> None:
    """Give the manifest the hashes of the files as they are now: what somebody would do who changes an artifact."""
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["files"] = {name: sha256(path / name) for name in manifest["files"]}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("file", ["config.toml", "items.parquet", "weights.safetensors"])
def test_one_changed_byte(file: str, saved: Path) -> None:
    content = bytearray((saved / file).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / file).write_bytes(content)
    message = rf"{file}: its SHA-256 is not the one in manifest\.json \([0-9a-f]{{12}}…\): it was changed or cut short"
    with pytest.raises(InputError, match=message):
        artifact.load(saved)


@pytest.mark.parametrize("file", ["config.toml", "items.parquet", "weights.safetensors"])
def test_a_missing_file(file: str, saved: Path) -> None:
    (saved / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: the file is missing\. Copy the artifact again, whole\."):
        artifact.load(saved)


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no artifact here: manifest\.json is missing\. `slatewise train` makes one"):
        artifact.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest | {"format": 1},
            "format 1; this version reads format 2.*slatewise train CONFIG --out",
        ),
        (lambda manifest: {"name": "other"}, "format None; this version reads format 2"),
        (lambda manifest: [manifest], "no table; this version reads format 2"),
        (lambda manifest: manifest | {"files": None}, "it names the files None; expected config"),
        (
            lambda manifest: manifest | {"files": manifest["files"] | {"../../secret": "0"}},
            r"it names the files .*'\.\./\.\./secret'; expected config\.toml, items\.parquet, weights\.safetensors\. "
            "This is no artifact of ours: do not use it",
        ),
        (lambda manifest: manifest | {"files": {"/etc/passwd": "0"}}, "it names the files '/etc/passwd'"),
        (lambda manifest: manifest | {"files": {"config.toml": "0"}}, "it names the files 'config.toml'"),
        (lambda manifest: manifest | {"files": dict.fromkeys(manifest["files"], 5)}, "its SHA-256 is not the one"),
    ],
    ids=["format", "other", "list", "no files", "traversal", "absolute", "fewer files", "hashes"],
)
def test_a_manifest_that_is_not_ours(change: Callable[[Any], Any], message: str, saved: Path) -> None:
    file = saved / "manifest.json"
    file.write_text(json.dumps(change(json.loads(file.read_text("utf-8")))), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        artifact.load(saved)


def test_a_manifest_that_is_no_json(saved: Path) -> None:
    (saved / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json: no JSON"):
        artifact.load(saved)


def change_weights(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(path / "weights.safetensors")), path / "weights.safetensors")
    reseal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"head.item.weight": w["head.item.weight"][:, :2].contiguous()}, "size mismatch for head.item"),
        (lambda w: {name: value for name, value in w.items() if name != "head.bias.weight"}, "Missing key"),
        (lambda w: w | {"more": torch.zeros(1)}, "Unexpected key"),
    ],
    ids=["shape", "missing", "surplus"],
)
def test_weights_that_do_not_fit(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, saved: Path
) -> None:
    change_weights(saved, change)
    with pytest.raises(InputError, match=rf"(?s)the weights do not fit the configuration: .*{message}"):
        artifact.load(saved)


def test_weights_that_are_none(saved: Path) -> None:
    (saved / "weights.safetensors").write_bytes(b"\x80\x04K\x05.")  # a pickle, for example
    reseal(saved)
    with pytest.raises(InputError, match=r"weights\.safetensors: the weights do not fit the configuration: "):
        artifact.load(saved)


def test_items_that_are_none(saved: Path) -> None:
    (saved / "items.parquet").write_bytes(b"PAR1")
    reseal(saved)
    with pytest.raises(InputError, match=r"items\.parquet: no catalog: "):
        artifact.load(saved)
    pq.write_table(pa.table({"item": ["a"]}), saved / "items.parquet")
    reseal(saved)
    with pytest.raises(InputError, match=r"items\.parquet: no catalog: .*item_id"):
        artifact.load(saved)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "cloning"', 'name = "clone"', r'methods has no "clone"; did you mean "cloning"\?'),
        (
            "lr = 0.5",
            "rate = 0.5",
            r'\[method\] has an unknown key "rate".*Train it again: `slatewise train CONFIG --out \S+ --overwrite`',
        ),
        ("width = 4", "width = 0", r"config\.toml \[encoder\]: width 0"),
        ('name = "cloning"', "", r"\[method\] has no name"),
        ("[method]", "[methods]", r"\[method\] has no name"),
        (
            'name = "cloning"',
            'name = "os.path"',
            r'\[method\] name = "os\.path" is a module of somebody else\'s, and to load it would run its code',
        ),
        ("temperature = 1.0", "temperature = -1.0", r"config\.toml: temperature is -1\.0; expected a number above 0"),
    ],
    ids=["method", "key", "value", "no name", "no table", "module", "refused"],
)
def test_a_configuration_that_cannot_be_built(old: str, new: str, message: str, saved: Path) -> None:
    file = saved / "config.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    reseal(saved)
    with pytest.raises(InputError, match=message):
        artifact.load(saved)
