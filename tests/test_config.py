from __future__ import annotations

import importlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slatewise import config
from slatewise.errors import InputError
from slatewise.methods import cloning


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Settings of every kind."""

    gamma: float = 0.9
    steps: int = 5
    kind: Literal["full", "sampled"] = "full"
    edges: tuple[float, ...] = (1.0,)
    limit: float | None = None
    on: bool = True

    def __post_init__(self) -> None:
        if self.gamma > 1:
            raise ValueError(f"gamma is {self.gamma}; expected at most 1")


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Settings with tables of their own: one that is always there, and one that may be missing."""

    rate: float = 0.1
    sample: Sample = Sample()
    variant: Sample | None = None


SAMPLES = st.builds(
    Sample,
    gamma=st.floats(-1e6, 1),
    steps=st.integers(-(2**63), 2**63 - 1),
    kind=st.sampled_from(["full", "sampled"]),
    edges=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    limit=st.none() | st.floats(allow_nan=False),
    on=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(sample=SAMPLES)
def test_settings_come_back_from_toml(sample: Sample) -> None:
    text = config.dump_toml({"method": config.to_table(sample)})
    assert config.convert(Sample, tomllib.loads(text)["method"], where="x") == sample


@settings(max_examples=40, deadline=None)
@given(nested=st.builds(Nested, sample=SAMPLES, variant=st.none() | SAMPLES))
def test_settings_inside_settings_come_back_from_toml(nested: Nested) -> None:
    text = config.dump_toml({"method": config.to_table(nested)})
    assert config.convert(Nested, tomllib.loads(text)["method"], where="x") == nested


def test_a_table_inside_a_table_by_hand() -> None:
    def read(text: str) -> Nested:
        return config.convert(Nested, tomllib.loads(text).get("method", {}), where="x")

    assert read("") == Nested(sample=Sample(), variant=None)
    assert read("[method.variant]") == Nested(variant=Sample()), "an empty table is the variant with its defaults"
    assert read("[method]\nrate = 1\nsample.steps = 7\n[method.variant]\non = false") == Nested(
        rate=1.0, sample=Sample(steps=7), variant=Sample(on=False)
    )
    overridden = config.override({"method": {"sample": {"steps": 7}}}, ["method.sample.gamma=0.5", "method.variant={}"])
    assert config.convert(Nested, config.sections(overridden, where="x")["method"], where="x") == Nested(
        sample=Sample(steps=7, gamma=0.5), variant=Sample()
    )
    assert config.to_table(Nested(sample=Sample(limit=2.0))) == {
        "rate": 0.1,
        "sample": {"gamma": 0.9, "steps": 5, "kind": "full", "edges": (1.0,), "limit": 2.0, "on": True},
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sample": {"gama": 1}}, 'run.toml [method.sample] has an unknown key "gama"; did you mean "gamma"? known'),
        ({"variant": {"zzz": 1}}, 'run.toml [method.variant] has an unknown key "zzz"; known keys: gamma, '),
        ({"steps": 1}, 'unknown key "steps"; write "sample.steps" or "variant.steps" instead; known keys: rate, '),
        ({"variant_limit": 1}, 'unknown key "variant_limit"; write "variant.limit" instead; known keys: rate, '),
        ({"variant": {"gamma": 2}}, "run.toml [method.variant]: gamma is 2.0; expected at most 1"),
        (
            {"sample": {"steps": 0.5}},
            "run.toml [method.sample]: steps is 0.5; expected a whole number. Correct the value",
        ),
        ({"sample": 3}, "run.toml [method]: sample is 3; expected a table"),
    ],
)
def test_a_bad_table_inside_a_table_by_its_path(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        config.convert(Nested, table, where="run.toml [method]")
    assert message in str(refused.value)


def test_a_table_inside_one_without_brackets_is_named_too() -> None:
    with pytest.raises(InputError, match=r'drift \[sample\] has an unknown key "x"'):
        config.convert(Nested, {"sample": {"x": 1}}, where="drift")


def test_whole_numbers_are_numbers() -> None:
    assert config.convert(Sample, {"gamma": 1, "edges": [1, 2]}, where="x") == Sample(gamma=1.0, edges=(1.0, 2.0))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"gama": 0.5},
            'run.toml [method] has an unknown key "gama"; did you mean "gamma"? known keys: gamma, steps, ',
        ),
        ({"zzz": 1}, 'run.toml [method] has an unknown key "zzz"; known keys: gamma, '),
        ({"gamma": "fast"}, 'run.toml [method]: gamma is "fast"; expected a number. Correct the value'),
        ({"steps": 1.5}, "run.toml [method]: steps is 1.5; expected a whole number"),
        ({"kind": "half"}, 'run.toml [method]: kind is "half"; expected full or sampled'),
        ({"kind": 3}, "run.toml [method]: kind is 3; expected full or sampled"),
        ({"edges": [1, "x"]}, 'run.toml [method]: edges[1] is "x"; expected a number'),
        ({"edges": 3}, "run.toml [method]: edges is 3; expected a list"),
        ({"limit": "x"}, 'run.toml [method]: limit is "x"; expected a number'),
        ({"on": 1}, "run.toml [method]: on is 1; expected true or false"),
        ({"gamma": 2.0}, "gamma is 2.0; expected at most 1"),
    ],
)
def test_a_bad_table_by_its_words(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        config.convert(Sample, table, where="run.toml [method]")
    assert message in str(refused.value)


def test_assignments_by_hand() -> None:
    tables = {"method": {"name": "cloning", "lr": 0.1}}
    found = config.override(
        tables,
        ["method.lr=0.5", "train.seed=3", "method.kind=fast", 'method.text="a=b"', "evaluate.k=[1, 2]", "x=true"],
    )
    assert found == {
        "method": {"name": "cloning", "lr": 0.5, "kind": "fast", "text": "a=b"},
        "train": {"seed": 3},
        "evaluate": {"k": [1, 2]},
        "x": True,
    }
    assert tables == {"method": {"name": "cloning", "lr": 0.1}}, "what was given stays as it was"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("method.lr", "--set method.lr: expected KEY=VALUE"),
        ("=1", "--set =1: expected KEY=VALUE"),
        ("method.name.x=1", '--set method.name.x=1: "name" is a value, not a table'),
    ],
)
def test_assignments_that_are_none(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.override({"method": {"name": "cloning"}}, [assignment])


def test_components_are_the_files_of_a_room() -> None:
    encoders = config.components("encoders")
    assert {"cfn", "gru", "window"} <= set(encoders)
    assert encoders == sorted(encoders)
    assert not any(name.startswith("_") for name in encoders), "_history is a part, not a component"


def test_a_component_by_its_file_name_or_a_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name: object = config.find("methods", "cloning")
    by_path: object = config.find("methods", "slatewise.methods.cloning")
    assert by_name is by_path is cloning
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "mine.py").write_text(
        "Config = Policy = Learner = None\nDEFAULT_ENCODER = 'gru'\n", encoding="utf-8"
    )
    (tmp_path / "strangers" / "half.py").write_text("Config = Policy = None\n", encoding="utf-8")
    (tmp_path / "strangers" / "notes.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert config.find("methods", "strangers.mine").DEFAULT_ENCODER == "gru"
    with pytest.raises(InputError, match=r'"strangers\.half" is a module without a Learner, so it is none of the'):
        config.find("methods", "strangers.half")
    with pytest.raises(
        InputError, match=r'"strangers\.notes" is a module without a Config, so it is none of the methods'
    ):
        config.find("methods", "strangers.notes")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clonning", 'methods has no "clonning"; did you mean "cloning"? there are: '),
        ("", 'methods has no ""; there are: '),
        ("_history", 'methods has no "_history"'),
        ("nowhere.at.all", '"nowhere.at.all" cannot be imported: '),
        ("..sys", '"..sys" cannot be imported: '),
    ],
)
def test_a_component_that_is_none(name: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        config.find("methods", name)
    assert message in str(refused.value)


def test_the_name_of_a_table() -> None:
    assert config.name_of({"name": "gru"}, "encoders", where="x") == "gru"
    assert config.name_of({}, "encoders", where="x", default="cfn") == "cfn"
    with pytest.raises(InputError, match=r"x \[encoder\] has no name\. One of: cfn, gru"):
        config.name_of({}, "encoders", where="x [encoder]")
    with pytest.raises(InputError, match=r"x \[encoder\] name is 3, which is no string"):
        config.name_of({"name": 3}, "encoders", where="x [encoder]")


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('[a]\nb = "ü"\n', encoding="utf-8")
    assert config.read_toml(tmp_path / "good.toml") == {"a": {"b": "ü"}}
    with pytest.raises(InputError, match=r"nowhere\.toml: no such file\. Shipped configurations lie in"):
        config.read_toml(tmp_path / "nowhere.toml")
    with pytest.raises(InputError, match="it cannot be read: Is a directory"):
        config.read_toml(tmp_path)
    for content in (b"a = ", b"\xff\xff = 1"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.toml: no TOML: "):
            config.read_toml(tmp_path / "bad.toml")
