"""What every encoder must keep: T + 1 states, and a `step` that rolled out equals `forward`."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise import config as configs
from slatewise.log import FIRST_ITEM, UNKNOWN
from slatewise.protocols import ReadsContext, StateEncoder
from slatewise.testing._contract import expect, expect_close, expect_same_bits, no_global_randomness
from slatewise.testing._parts import expect_config, load_component, resolve
from slatewise.testing._toys import toy_catalog, toy_log, with_noise_in_padding, without_steps
from slatewise.types import NEVER, VIEWS, Trajectories, Uses

ROLLED = 1e-5
"""How far `step` may be from `forward`: they add in another order."""


def check_encoder(component: str | ModuleType, *, settings: dict[str, Any] | None = None) -> None:
    """Hold an encoder against its contract, on histories with gaps, late and several uses, unknown items and contexts.

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
        masked = (~log.mask).unsqueeze(2)
        message = f"{where}: the state after a masked step (found) is not the one before it (expected)"
        expect_close(states[:, 1:] * masked, states[:, :-1] * masked, message, tolerance=0.0)
        moved = ((states[:, -1] - states[:, 0]).abs() > 0).any(dim=1)
        remembers = encoder.initial(batch).shape[1] > 0
        expect(
            bool(moved.any()) == remembers,
            f"{where}: no history moves the state; expected that uses are read, or a carry of width 0",
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
    """The log with what histories can be: rows with gaps left, right and inside, an empty one, unknown items, and uses
    that are several of a slate, late, crossing each other, at one time, or never read.

    Args:
        log: at least six users, at least five steps, slates of at least two.
    """
    gaps = ~log.mask
    gaps[0, :2] = True
    gaps[1, 1:3] = True
    gaps[2, :] = True
    log = without_steps(log, gaps)
    slate, used = log.slate.clone(), log.used.clone()
    delay = torch.zeros_like(log.used_time)
    slate[3, 1, :] = UNKNOWN
    used[3, 1, 0] = True
    used[3, 2], delay[3, 2] = True, torch.arange(slate.shape[2]).flip(0)  # the last position first
    used[4, :2] = False
    used[4, 2:4, :2] = True  # at one time
    minute = int(log.time[5, 1] - log.time[5, 0])
    used[5, :, 0] = log.mask[5]
    delay[5, 0, 0] = 3 * minute  # just in time for step 3
    delay[5, 1, 0] = 2 * minute + 1  # just too late for it, and behind the use of step 2
    delay[0, 3], delay[1, 3] = minute // 2, 100 * minute  # one on time, one after the row
    used[0, 3] = used[1, 3] = used[1, 0] = True
    delay[1, 0, 0] = minute + 1  # into the gap
    used &= log.mask.unsqueeze(2)
    worth = torch.where(used, log.reward, 0.0)
    return log.replace(
        slate=slate,
        used=used,
        used_time=torch.where(used, log.time.unsqueeze(2) + delay, 0),
        use_reward=worth,
        reward=torch.where(used, worth + 1, log.reward),  # raised by what came later
        next_time=log.time.amax(dim=1) + minute,
    )


def first_steps(log: Trajectories, count: int) -> Trajectories:
    """The log up to a step, with what was seen after it."""
    columns: dict[str, Tensor] = {}
    for field in fields(log):
        value = getattr(log, field.name)
        if value is not None and value.ndim > 1:
            columns[field.name] = value[:, : count + (field.name in VIEWS)]
    return log.replace(**columns)


def _check_rolled_out(encoder: StateEncoder, log: Trajectories, states: Float[Tensor, "B S D"], where: str) -> None:
    batch, steps = log.mask.shape
    carry = encoder.initial(batch)
    expect(
        carry.ndim == 2 and len(carry) == batch and carry.dtype == torch.float32,
        f"{where}: the carry is {carry.dtype} {tuple(carry.shape)}; expected float32 ({batch}, M): one row a user, so "
        "that any store can keep it as bytes",
    )
    expect_close(encoder.step(carry, _together([], batch)), carry, f"{where}: a step without a use", tolerance=0.0)
    read: set[tuple[int, int, int]] = set()
    for t in range(steps + 1):
        happens = log.mask[:, t] if t < steps else torch.ones(batch, dtype=torch.bool)
        uses = _together(_new_uses(log, t, read), batch)
        carry_before = carry.clone()
        carry_after = encoder.step(carry, uses)
        expect_close(carry, carry_before, f"{where}: `step` changed the carry it was given", tolerance=0.0)
        expect(
            carry_after.shape == carry.shape and carry_after.dtype == carry.dtype,
            f"{where}: `step` gives a carry of {carry_after.dtype} {tuple(carry_after.shape)}; expected that of "
            f"`initial`, {carry.dtype} {tuple(carry.shape)}",
        )
        for place in range(uses.item.shape[1]):
            carry = encoder.step(carry, uses.columns(slice(place, place + 1)))
        message = f"{where}: the carry after the uses before step {t}, read together and one by one"
        expect_close(carry_after, carry, message, tolerance=ROLLED)
        state = encoder.state(carry, log.observation(t))
        message = f"{where}: the state before step {t}, rolled out use by use, against `forward`"
        expect_close(state[happens], states[happens, t], message, tolerance=ROLLED)


def _new_uses(log: Trajectories, t: int, read: set[tuple[int, int, int]]) -> list[list[tuple[int, float, int]]]:
    """Item, reward and time of every use that a user's decision t is the first to see; adds them to those read."""
    users, steps, places = log.slate.shape
    new: list[list[tuple[int, float, int]]] = []
    for user in range(users):
        if t < steps and not log.mask[user, t]:
            new.append([])
            continue
        moment = NEVER if log.next_time is None else int(log.next_time[user])
        moment = int(log.time[user, t]) if t < steps else moment
        arrived = [
            (int(log.used_time[user, step, place]), step, place)
            for step in range(t)
            for place in range(places)
            if log.used[user, step, place] and log.used_time[user, step, place] <= moment
            if (user, step, place) not in read
        ]
        arrived.sort()
        read.update((user, step, place) for _, step, place in arrived)
        at = [(user, step, place) for _, step, place in arrived]
        new.append([(int(log.slate[x]), float(log.use_reward[x]), int(log.used_time[x])) for x in at])
    return new


def _together(uses: list[list[tuple[int, float, int]]], users: int) -> Uses:
    """Uses of each user as one batch; what stands at places that are not present must not matter."""
    most = max(map(len, uses), default=0)
    filled = [[*user_uses, *[(FIRST_ITEM, 3.0, 0)] * (most - len(user_uses))] for user_uses in uses] or [[]] * users
    columns = torch.tensor(filled, dtype=torch.float64).view(users, most, 3)
    present = torch.tensor([[place < len(user_uses) for place in range(most)] for user_uses in uses]).view(users, most)
    return Uses(
        item=columns[:, :, 0].long(),
        reward=columns[:, :, 1].float(),
        time=columns[:, :, 2].long(),
        present=present.bool(),
    )


def _check_restored(encoder: nn.Module, empty: nn.Module, log: Trajectories, where: str) -> None:
    empty.load_state_dict(encoder.state_dict())
    empty.eval()
    with torch.no_grad():
        message = f"{where}: built without a generator, with the weights of another"
        expect_close(empty(log), encoder(log), message, tolerance=0.0)
