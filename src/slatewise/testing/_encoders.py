"""What every encoder must keep: T + 1 states, and a `step` that rolled out equals `forward`."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from slatewise import config as configs
from slatewise.log import UNKNOWN
from slatewise.protocols import ReadsContext, StateEncoder
from slatewise.testing._contract import expect, expect_close, expect_same_bits, no_global_randomness
from slatewise.testing._parts import expect_config, load_component, resolve
from slatewise.testing._toys import toy_catalog, toy_log, with_noise_in_padding, without_steps
from slatewise.types import VIEWS, Trajectories

ROLLED = 1e-5
"""How far `step` may be from `forward`: they add in another order."""


def check_encoder(component: str | ModuleType, *, settings: dict[str, Any] | None = None) -> None:
    """Hold an encoder against its contract, on histories with gaps, unpicked steps, unknown items and contexts.

    Args:
        component: file name in encoders/, dotted path, or module with `Config` and `Encoder`.
        settings: of its Config; the default Config where None.

    Raises:
        ContractError: the message says what was expected.
    """
    module = load_component("encoders", component)
    for context_width in (0, 2):
        where = f"{module.__name__} with {context_width} context columns"
        catalog = toy_catalog()
        log = histories(toy_log(catalog, context_width=context_width))
        config = configs.convert(module.Config, settings or {}, where=where)
        expect_config(config, where=where)
        resolved = resolve(config, log)
        expect_config(resolved, where=f"{where}, resolved")
        with no_global_randomness(where):
            encoder = module.Encoder(resolved, catalog, generator=Generator().manual_seed(0))
            if isinstance(encoder, nn.Module):
                again = module.Encoder(resolved, catalog, generator=Generator().manual_seed(0))
                expect_same_bits(again.state_dict(), encoder.state_dict(), f"{where}: built twice from the same seed")
                _check_restored(encoder.eval(), module.Encoder(resolved, catalog), log, where)
            with torch.no_grad():
                _check_context(encoder, log, where)
                check_states(encoder, log, num_rows=catalog.num_rows, where=where)


def check_states(encoder: StateEncoder, log: Trajectories, *, num_rows: int, where: str) -> None:
    """The part of the contract that needs only an encoder in evaluation mode and a log.

    Args:
        encoder: the encoder; its weights should not all be zero.
        log: some histories; masked steps anywhere.
        num_rows: rows of the item table.
        where: name of the encoder, for messages.

    Raises:
        ContractError: the message says what was expected.
    """
    batch, steps = log.mask.shape
    states = encoder(log)
    shape = (batch, steps + 1, encoder.width)
    expect(
        tuple(states.shape) == shape,
        f"{where}: states have the shape {tuple(states.shape)}; expected {shape}: one before each step, one after the "
        f"last, of width {encoder.width}",
    )
    expect(bool(torch.isfinite(states).all()), f"{where}: a state is not finite")
    expect_close(encoder(log), states, f"{where}: the same histories read twice", tolerance=0.0)
    _check_rolled_out(encoder, log, states, where)
    if not log.context.shape[2]:
        still = (~log.mask).unsqueeze(2)
        message = f"{where}: the state after a masked step (found) is not the one before it (expected)"
        expect_close(states[:, 1:] * still, states[:, :-1] * still, message, tolerance=0.0)
        moved = ((states[:, -1] - states[:, 0]).abs() > 0).any(dim=1)
        remembers = encoder.initial(log.observation(0))[0].shape[1] > 0
        expect(
            bool(moved.any()) == remembers,
            f"{where}: no history moves the state; expected that picks are read, or a carry of width 0",
        )
    noisy = encoder(with_noise_in_padding(log, num_rows=num_rows))
    expect_close(noisy, states, f"{where}: with other numbers in the padding", tolerance=1e-6)
    for user in range(batch):
        alone = encoder(log.rows(slice(user, user + 1)))
        expect_close(alone[0], states[user], f"{where}: user {user} read alone, not in a batch", tolerance=ROLLED)
    nothing = encoder(first_steps(log, 0))
    expect_close(nothing[:, 0], states[:, 0], f"{where}: users without history", tolerance=ROLLED)


def _check_context(encoder: StateEncoder, log: Trajectories, where: str) -> None:
    """An encoder whose states depend on the context says how wide a context it reads."""
    moved = bool((encoder(log.replace(context=log.context + 1.0)) != encoder(log)).any())
    width = encoder.context_width if isinstance(encoder, ReadsContext) else 0
    expected = log.context.shape[2] if moved else width
    expect(width == expected, f"{where}: its context_width is {width}; expected {expected}, which its states read")


def histories(log: Trajectories) -> Trajectories:
    """The log with what histories can be: rows with gaps left, right and inside, an empty one, unknown items.

    Args:
        log: at least five users, at least four steps.
    """
    gone = ~log.mask
    gone[0, :2] = True
    gone[1, 1:3] = True
    gone[2, :] = True
    log = without_steps(log, gone)
    slate = log.slate.clone()
    slate[3, 1, :] = UNKNOWN
    choice = log.choice.clone()
    choice[3, 1] = 0
    choice[4, :2] = -1
    return log.replace(slate=slate, choice=choice)


def first_steps(log: Trajectories, count: int) -> Trajectories:
    """The log up to a step, with what was seen after it."""
    columns: dict[str, Tensor] = {}
    for field in fields(log):
        value = getattr(log, field.name)
        if value is not None:
            columns[field.name] = value[:, : count + (field.name in VIEWS)]
    return log.replace(**columns)


def _check_rolled_out(encoder: StateEncoder, log: Trajectories, states: Float[Tensor, "B S D"], where: str) -> None:
    batch, steps = log.mask.shape
    carry, state = encoder.initial(log.observation(0))
    expect(
        carry.ndim == 2 and len(carry) == batch and carry.dtype == torch.float32,
        f"{where}: the carry is {carry.dtype} {tuple(carry.shape)}; expected float32 ({batch}, M): one row a user, so "
        "that any store can keep it as bytes",
    )
    expect_close(state, states[:, 0], f"{where}: the state that `initial` gives, against `forward`", tolerance=ROLLED)
    for t in range(steps):
        before = carry.clone()
        after, state = encoder.step(carry, log.step(t), log.observation(t + 1))
        expect_close(carry, before, f"{where}: `step` changed the carry it was given", tolerance=0.0)
        happened = log.mask[:, t]
        message = f"{where}: the state that `step` gives after step {t}, against `forward`"
        expect_close(_rows(state, happened), _rows(states[:, t + 1], happened), message, tolerance=ROLLED)
        expect(
            after.shape == carry.shape and after.dtype == carry.dtype,
            f"{where}: `step` gives a carry of {after.dtype} {tuple(after.shape)}; expected that of `initial`, "
            f"{carry.dtype} {tuple(carry.shape)}",
        )
        # who has no step here was not asked
        carry = torch.where(happened.unsqueeze(1), after, carry)


def _check_restored(encoder: nn.Module, empty: nn.Module, log: Trajectories, where: str) -> None:
    empty.load_state_dict(encoder.state_dict())
    empty.eval()
    with torch.no_grad():
        message = f"{where}: built without a generator, with the weights of another"
        expect_close(empty(log), encoder(log), message, tolerance=0.0)


def _rows(values: Float[Tensor, "B D"], kept: Bool[Tensor, "B"]) -> Float[Tensor, "P D"]:
    return values[kept]
