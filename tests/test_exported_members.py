"""The public names are the public names."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import slatewise
import slatewise.testing

PUBLIC = {
    "Catalog", "Estimate", "Exploration", "InputError", "Interactions", "Observation", "SlateRequest",
    "SlatewiseError", "Slates", "Step", "Trajectories", "Vocabulary",
}  # fmt: skip
CHECKS = {
    "ContractError", "Coverage", "CoverageSetting", "check_encoder", "check_env", "check_estimator", "check_method",
    "check_policy", "check_popularity_fallback", "check_retriever", "check_states", "check_trajectories",
    "measure_coverage", "toy_catalog", "toy_dataset", "toy_log", "written_log",
}  # fmt: skip


def modules() -> list[str]:
    found = pkgutil.walk_packages(slatewise.__path__, "slatewise.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


def test_what_stands_at_the_top() -> None:
    assert set(slatewise.__all__) == PUBLIC
    for name in PUBLIC:
        member = getattr(slatewise, name)
        assert (member.__name__, member.__module__.split(".")[0]) == (name, "slatewise")
    with pytest.raises(AttributeError, match="module 'slatewise' has no attribute 'Slate'"):
        slatewise.Slate  # noqa: B018


def test_what_strangers_check_their_components_with() -> None:
    assert set(slatewise.testing.__all__) == CHECKS


@pytest.mark.parametrize("name", modules())
def test_a_module_exports_what_it_names(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        return
    missing = [member for member in exported if not hasattr(module, member)]
    assert not missing, f"{name}.__all__ names what is not there"
    assert len(set(exported)) == len(exported), f"{name}.__all__ names something twice"
    assert not [member for member in exported if member.startswith("_")], f"{name}.__all__ names a private part"
    # a method, an environment and an experiment are what their folder's first file says; other packages pass names on
    if hasattr(module, "__path__") and name.split(".")[1] not in ("methods", "reproduce", "sim"):
        # what a package takes in from its own modules is what it exports
        taken_in = {
            member
            for member, value in vars(module).items()
            if not member.startswith("_") and str(getattr(value, "__module__", "")).startswith(f"{name}.")
        }
        assert taken_in <= set(exported), f"{name} takes in what it does not export"


def test_naming_the_package_loads_nothing_heavy() -> None:
    code = "import slatewise, sys; sys.exit(bool({'torch', 'pyarrow', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checks_need_no_test_framework() -> None:
    code = "import slatewise.testing, sys; sys.exit(bool({'pytest', 'hypothesis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
