"""What every policy must keep: real slates, and propensities that are exactly those of the served procedure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, PAD, UNKNOWN, Catalog
from slatewise.protocols import Policy
from slatewise.testing._contract import expect, expect_close, no_global_randomness
from slatewise.types import Exploration, Slates

SLATE_SIZE = 3
EXPLORATIONS = (
    None,
    Exploration(),
    Exploration(top_m=6, keep=1, temperature=0.5),
    Exploration(top_m=6, keep=SLATE_SIZE + 1),
    Exploration(top_m=SLATE_SIZE, temperature=2.0),
)
"""Greedy; all drawn from more than there is; mixed; all fixed; nothing but the order drawn."""
DRAWS = 4000
PROBABILITY = 1e-4
"""How far the probabilities of all slates may sum from 1."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What may be shown to some users, as a service or an evaluation asks for it."""

    name: str
    candidates: Int[Tensor, "B C"] | None
    exclude: Int[Tensor, "B X"] | None

    def allowed(self, num_rows: int, users: int) -> Bool[Tensor, "B N"]:
        """True for the item numbers that may stand in a slate."""
        free = torch.ones(users, num_rows, dtype=torch.bool)
        if self.candidates is not None:
            free = torch.zeros_like(free).scatter(1, self.candidates, True)
        if self.exclude is not None:
            free = free.scatter(1, self.exclude, False)
        free[:, :FIRST_ITEM] = False
        return free

    def row(self, user: int, times: int) -> Situation:
        """The situation of one user, many times."""
        parts = [
            None if part is None else part[user : user + 1].expand(times, -1)
            for part in (self.candidates, self.exclude)
        ]
        return Situation(name=self.name, candidates=parts[0], exclude=parts[1])


@dataclass(frozen=True)
class _Procedure:
    """A policy as it is served: the number that its propensities must be exact for."""

    policy: Policy
    situation: Situation
    explore: Exploration | None
    where: str

    def of(self, user: int) -> _Procedure:
        return replace(self, situation=self.situation.row(user, 1))

    def recommend(self, state: Float[Tensor, "B D"], k: int = SLATE_SIZE) -> Slates:
        return self.policy.recommend(
            state,
            k,
            candidates=self.situation.candidates,
            exclude=self.situation.exclude,
            explore=self.explore,
            generator=Generator().manual_seed(1),
        )

    def log_prob(self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        situation = self.situation
        return self.policy.log_prob(
            state, slate, candidates=situation.candidates, exclude=situation.exclude, explore=self.explore
        )

    def log_prob_of_each(self, state: Float[Tensor, "D"], slate: Int[Tensor, "V K"]) -> Float[Tensor, "V"]:
        """Log-propensity of every slate in the situation of the first user."""
        many = replace(self, situation=self.situation.row(0, len(slate)))
        return many.log_prob(state.expand(len(slate), -1), slate).sum(dim=1)


def check_policy(
    policy: Policy,
    catalog: Catalog,
    state: Float[Tensor, "B D"],
    *,
    name: str | None = None,
    every_situation: bool = True,
) -> None:
    """Hold a policy against its contract.

    For every exploration, with and without candidates and exclusions: slates hold allowed items, none twice, and end
    in item 0 where they run out; `log_prob` gives the numbers that `recommend` gave; the probabilities of all slates
    sum to one; draws come as often as their propensity says. `log_pi` is a distribution over the real items.

    Args:
        policy: in evaluation mode.
        catalog: at least 8 items; the check enumerates all slates of two, so not many more than 20.
        state: some states.
        name: for messages.
        every_situation: False tries only the whole catalog, and candidates with exclusions.

    Raises:
        ContractError: the message says what was expected.
    """
    where = name or type(policy).__name__
    expect(isinstance(policy, Policy), f"{where} lacks a member of slatewise.protocols.Policy: encoder, log_pi, …")
    with torch.no_grad(), no_global_randomness(where):
        _check_single_draws(policy, catalog, state, where)
        tried = situations(catalog, len(state))
        for number, situation in enumerate(tried if every_situation else (tried[0], tried[3])):
            for explore in EXPLORATIONS:
                served = _Procedure(policy, situation, explore, f"{where}, {situation.name}, {_words(explore)}")
                _check_slates(served, catalog, state)
                user = number % len(state)
                _check_all_slates(served.of(user), catalog, state[user])
            _check_repeatable(served, state)
        _check_draws(policy, catalog, state[0], where)
        _check_refusals(policy, catalog, state, where)


def situations(catalog: Catalog, users: int) -> tuple[Situation, ...]:
    """The whole catalog; candidates with repeats, padding and the unknown item; exclusions; next to nothing left."""
    generator = Generator().manual_seed(0)
    order = torch.rand(users, catalog.num_items, generator=generator).argsort(dim=1) + FIRST_ITEM
    repeat, reserved = order[:, :1], torch.tensor([[PAD, UNKNOWN]]).expand(users, -1)
    candidates = torch.cat([order[:, :5], repeat, reserved, order[:, 5:6]], dim=1)
    exclude = torch.cat([order[:, 1:3], reserved[:, :1], order[:, 7:8]], dim=1)
    return (
        Situation(name="whole catalog", candidates=None, exclude=None),
        Situation(name="whole catalog with exclusions", candidates=None, exclude=exclude),
        Situation(name="six candidates", candidates=candidates, exclude=None),
        Situation(name="four candidates after exclusions", candidates=candidates, exclude=exclude),
        Situation(name="one item left", candidates=order[:, 2:4], exclude=exclude),
        Situation(name="nothing left", candidates=order[:, 1:3], exclude=exclude),
        Situation(name="no candidate at all", candidates=order[:, :0], exclude=exclude[:, :0]),
    )


def _check_single_draws(policy: Policy, catalog: Catalog, state: Float[Tensor, "B D"], where: str) -> None:
    items = torch.arange(catalog.num_rows).expand(len(state), -1)
    log_pi = policy.log_pi(state, items)
    expect(
        log_pi.shape == items.shape,
        f"{where}: log_pi has the shape {tuple(log_pi.shape)}; expected {tuple(items.shape)}, one number an item",
    )
    total = log_pi[:, FIRST_ITEM:].exp().sum(dim=1)
    expect_close(total, torch.ones_like(total), f"{where}: Σ π(a|s) over all real items", tolerance=PROBABILITY)
    reserved = bool((log_pi[:, :FIRST_ITEM] == -torch.inf).all())
    expect(reserved, f"{where}: log_pi of padding and of the unknown item must be −inf; {log_pi[:, :FIRST_ITEM]}")
    some = items[:, FIRST_ITEM::3]
    message = f"{where}: log_pi asked for some items, against the same items among all"
    expect_close(policy.log_pi(state, some), log_pi[:, FIRST_ITEM::3], message, tolerance=PROBABILITY)


def _check_slates(served: _Procedure, catalog: Catalog, state: Float[Tensor, "B D"]) -> None:
    at, situation = served.where, served.situation
    slates = served.recommend(state)
    shape = (len(state), SLATE_SIZE)
    expect(
        tuple(slates.items.shape) == shape and tuple(slates.logp.shape) == shape,
        f"{at}: items {tuple(slates.items.shape)} and logp {tuple(slates.logp.shape)}; expected {shape}",
    )
    expect(slates.items.dtype == torch.int64, f"{at}: items are {slates.items.dtype}; expected int64")
    allowed = situation.allowed(catalog.num_rows, len(state))
    number = allowed.sum(dim=1).clamp(max=SLATE_SIZE)
    for user, items in enumerate(slates.items.tolist()):
        free = allowed[user].nonzero().flatten().tolist()
        shown, rest = items[: int(number[user])], items[int(number[user]) :]
        expect(
            len(set(shown)) == len(shown) and set(shown) <= set(free) and set(rest) <= {PAD},
            f"{at}: the slate {items} was served; expected {len(shown)} different items of {free}, then item 0",
        )
    expect(
        bool(torch.isfinite(slates.logp).all()) and bool((slates.logp <= 0).all()),
        f"{at}: a log-propensity of what was served is {slates.logp.max().item()} to {slates.logp.min().item()}; "
        "expected finite numbers, at most 0",
    )
    logp = served.log_prob(state, slates.items)
    expect_close(logp, slates.logp, f"{at}: log_prob of what was served, against recommend().logp", tolerance=1e-6)


def _check_repeatable(served: _Procedure, state: Float[Tensor, "B D"]) -> None:
    one, other = served.recommend(state), served.recommend(state)
    same = torch.equal(one.items, other.items)
    expect(same, f"{served.where}: other slates from an equal generator: {one.items.tolist()}, {other.items.tolist()}")


def _check_all_slates(served: _Procedure, catalog: Catalog, state: Float[Tensor, "D"]) -> None:
    at = served.where
    k = 2
    numbers = torch.arange(catalog.num_rows)
    slate = torch.cartesian_prod(*[numbers] * k)
    allowed = served.situation.allowed(catalog.num_rows, 1)[0]
    length = min(k, int(allowed.sum()))
    possible = allowed[slate[:, :length]].all(dim=1) & (slate[:, length:] == PAD).all(dim=1)
    if length == k:
        possible &= slate[:, 0] != slate[:, 1]
    logp = served.log_prob_of_each(state, slate)
    wrong = (~possible & (logp > -torch.inf)).nonzero().flatten().tolist()
    expect(
        not wrong,
        f"{at}: the slate {slate[wrong[0]].tolist() if wrong else []} has a probability above 0; expected −inf: "
        f"{length} different items of {allowed.nonzero().flatten().tolist()}, then item 0",
    )
    total = float(logp[possible].exp().sum())
    expect(
        abs(total - 1.0) <= PROBABILITY,
        f"{at}: the probabilities of all {int(possible.sum())} slates of {k} sum to {total:.6f}; expected 1",
    )


def _check_draws(policy: Policy, catalog: Catalog, state: Float[Tensor, "D"], where: str) -> None:
    """Propensities that agree with each other could still be wrong; how often slates come shows it."""
    explore = Exploration(top_m=5)
    served = _Procedure(policy, Situation(name="", candidates=None, exclude=None), explore, where)
    first, second = served.recommend(state.expand(DRAWS, -1), k=2).items.unbind(dim=1)
    slate = torch.cartesian_prod(*[torch.arange(catalog.num_rows)] * 2)
    share = served.log_prob_of_each(state, slate).exp()
    count = torch.bincount(first * catalog.num_rows + second, minlength=len(slate))
    often = (share * DRAWS >= 10) & (share < 1)
    deviation = (count - share * DRAWS) / (share * (1 - share) * DRAWS).sqrt()
    worst = int(torch.where(often, deviation.abs(), 0.0).argmax())
    expect(
        not bool(often[worst]) or abs(float(deviation[worst])) < 5,
        f"{where}, {_words(explore)}: {int(count[worst])} of {DRAWS} slates were {slate[worst].tolist()}; its "
        f"probability {float(share[worst]):.4f} says {float(share[worst]) * DRAWS:.0f}, and that is "
        f"{float(deviation[worst]):+.1f} standard deviations away",
    )


def _check_refusals(policy: Policy, catalog: Catalog, state: Float[Tensor, "B D"], where: str) -> None:
    for k in (0, catalog.num_items + 1):
        message = f"{where}: a slate of {k} from {catalog.num_items} items was served; expected a ValueError"
        try:
            policy.recommend(state, k, generator=Generator().manual_seed(0))
        except ValueError:
            continue
        expect(False, message)
    try:
        policy.recommend(state, SLATE_SIZE, explore=Exploration())
    except ValueError:
        return
    expect(False, f"{where}: a slate was drawn without a generator; expected a ValueError")


def _words(explore: Exploration | None) -> str:
    if explore is None:
        return "greedy"
    return f"top_m={explore.top_m} keep={explore.keep} temperature={explore.temperature:g}"
