"""Environments and the policies that serve them, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slatewise import artifact
from slatewise import config as configs
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError, input_error
from slatewise.log import Catalog
from slatewise.methods import random as uniform
from slatewise.protocols import Env, HasReferencePolicies, Policy, ReadsContext

PRIVILEGED: dict[str, str] = {
    "random": "slates drawn at random from what may be shown, all alike",
    "myopic": "the items that the true user model would pick now, whatever that costs later",
    "oracle": "the items that pay off later too, by numbers that nobody outside can see",
}
"""Policies that need no training, and what they know."""


@dataclass(frozen=True, kw_only=True)
class World:
    """An environment ready to be played."""

    name: str
    config: Any
    env: Env = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A policy ready to serve a world."""

    policy: Policy = field(repr=False)
    version: str
    """As a log names it."""
    words: str
    """What it goes by."""


def open_world(name: str, assignments: Sequence[str] = (), *, num_users: int) -> World:
    """An environment by its file name, or by the run folder of a user model that was fitted to a log.

    Args:
        name: interest_evolution, drift, …, a dotted path, or a run folder.
        assignments: KEY=VALUE, put into its Config.
        num_users: users at once, ≥ 1.

    Raises:
        InputError: no such environment, a key it does not have, or a value it refuses.
    """
    table = configs.override({}, list(assignments))
    if Path(name).is_dir():
        name, table = "log_fitted", {"run": name} | table
    elif "." not in name:
        name = name.replace("-", "_")
    if "." not in name and name not in configs.components("sim"):
        raise input_error(
            f'"{name}" is no environment and no run folder of a fitted one',
            advice=f"Environments: {', '.join(configs.components('sim'))}.",
        )
    module = configs.find("sim", name)
    config = configs.convert(module.Config, table, where=name, assignments=assignments)
    try:
        env = module.Env(config, num_users=num_users)
    except ValueError as error:
        raise InputError(f"{name}: {error}.") from error
    return World(name=name, config=config, env=env)


def open_policy(world: World, policy: str, *, allow_modules: bool = False) -> Served:
    """A policy for a world: random, myopic, oracle, or what a run folder holds.

    Args:
        world: what it will serve.
        policy: one of `PRIVILEGED`, or a run folder of `slatewise train`.
        allow_modules: see `artifact.load`.

    Raises:
        InputError: no such policy or run, a policy that this world does not have, or a run that was trained on another
            catalog or another context.
    """
    env = world.env
    if policy == "random":
        built: Policy = uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog)
        return Served(policy=built, version=policy, words=PRIVILEGED[policy])
    if policy in PRIVILEGED:
        references = env.reference_policies() if isinstance(env, HasReferencePolicies) else {}
        if policy not in references:
            has = ", ".join(("random", *references))
            raise input_error(f"{world.name} has no {policy} policy", advice=f"It has: {has}; or name a run folder.")
        build = references[policy]
        return Served(policy=build(), version=policy, words=_first_sentence(build))
    return _run(world, Path(policy), allow_modules=allow_modules)


def _first_sentence(build: Callable[[], Policy]) -> str:
    text = (build.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return text[:1].lower() + text[1:]


def _run(world: World, path: Path, *, allow_modules: bool) -> Served:
    folder = path / "artifact" if (path / "artifact").is_dir() else path
    if not folder.is_dir():
        raise input_error(
            f'"{path}" is no policy and no run folder',
            advice=f"Policies: {', '.join(PRIVILEGED)}; or a folder that `slatewise train` made.",
        )
    loaded = artifact.load(folder, allow_modules=allow_modules)
    check_catalog(loaded.catalog, world.env.catalog, path=path, world=world.name)
    encoder, has = loaded.policy.encoder, world.env.reset(seed=0).context.shape[1]
    if isinstance(encoder, ReadsContext) and encoder.context_width != has:
        raise input_error(
            f"its encoder reads {encoder.context_width} numbers of context; {world.name} shows {has}",
            file=path,
            advice="Set the environment as it was when the run's log was recorded.",
        )
    return Served(policy=loaded.policy, version=loaded.version, words=f"{loaded.config.method.name} of {path}, greedy")


def check_catalog(trained_on: Catalog, other: Catalog, *, path: Path, world: str) -> None:
    """Refuse a policy whose item numbers mean other items."""
    if trained_on.num_items != other.num_items:
        raise input_error(
            f"it was trained on another catalog: {trained_on.num_items:,} items, {world} has {other.num_items:,}",
            file=path,
            advice="Set the environment as it was when the run's log was recorded (--set), or train anew.",
        )
    for number, (trained_name, world_name) in enumerate(
        zip(trained_on.vocabulary.names.to_pylist(), other.vocabulary.names.to_pylist(), strict=True), start=2
    ):
        if trained_name != world_name:
            raise input_error(
                f'it was trained on another catalog: item {number} is "{trained_name}" there and "{world_name}" in '
                f"{world}",
                file=path,
                advice="Import the log together with the items.parquet that was recorded beside it, and train anew.",
            )
