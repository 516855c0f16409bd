"""Settings of components and how they are built, in the checks."""

from __future__ import annotations

import dataclasses
import tomllib
from types import ModuleType
from typing import Any, Literal

from slatewise import config as configs
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.protocols import ResolvesFromLog
from slatewise.testing._contract import expect
from slatewise.testing._toys import as_interactions
from slatewise.types import Trajectories


def load_component(room: Literal["methods", "encoders", "sim"], component: str | ModuleType) -> ModuleType:
    """The module of a component, which defines what one of its room must and says in its docstring what it is."""
    module = configs.find(room, component) if isinstance(component, str) else component
    assert isinstance(module, ModuleType)
    names = configs.DEFINES[room]
    missing = [name for name in names if name not in vars(module)]
    expect(not missing, f"{module.__name__} has no {', '.join(missing)}; expected {', '.join(names)}")
    expect(
        bool(module.__doc__), f"{module.__name__} has no docstring; expected one sentence, the paper and its formula"
    )
    return module


def expect_config(config: Any, *, where: str) -> None:
    """A frozen dataclass that comes back from TOML as it was, and refuses a key that it does not know."""
    cls = type(config)
    expect(dataclasses.is_dataclass(cls), f"{where}: Config is no dataclass; expected a frozen, keyword-only one")
    parameters = cls.__dataclass_params__
    expect(
        bool(parameters.frozen), f"{where}: Config can be changed after it was made; expected @dataclass(frozen=True)"
    )
    positional = [field.name for field in dataclasses.fields(cls) if not field.kw_only]
    expect(not positional, f"{where}: {', '.join(positional)} can be given by position; expected kw_only=True")
    text = configs.dump_toml(configs.to_table(config))
    back = configs.convert(cls, tomllib.loads(text), where=where)
    expect(back == config, f"{where}: {config} comes back from TOML as {back}; expected the same settings")
    try:
        configs.convert(cls, {"no_such_setting": 1}, where=where)
    except InputError as error:
        expect("no_such_setting" in str(error), f'{where}: the error does not name the unknown key: "{error}"')
    else:
        expect(False, f"{where}: an unknown key is taken; expected an InputError that names it")


def resolve(config: Any, log: Trajectories) -> Any:
    """The settings with what they leave open filled in from a log."""
    return config.resolve(LogPart.whole(as_interactions(log))) if isinstance(config, ResolvesFromLog) else config
