"""What every policy must keep: real slates, and propensities that are exactly those of the served procedure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, PAD, UNKNOWN, Catalog
from slatewise.protocols import Policy, ScoresByInnerProduct
from slatewise.testing._contract import expect, expect_close, no_global_randomness
from slatewise.types import Exploration, SlateRequest, Slates

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
    candidates: Int[Tensor, "B C"] | None = None
    allowed: Bool[Tensor, " rows"] | None = None
    exclude: Int[Tensor, "B X"] | None = None
    fixed: Int[Tensor, "B K"] | None = None
    """Of a slate of SLATE_SIZE; a shorter one has its first positions."""

    def is_free(self, k: int, num_rows: int, users: int) -> Bool[Tensor, "B N"]:
        """True for the item numbers that may stand at a free position of a slate of k."""
        free = torch.ones(users, num_rows, dtype=torch.bool)
        if self.candidates is not None:
            free = torch.zeros_like(free).scatter(1, self.candidates, True)
        if self.allowed is not None:
            free = free & self.allowed
        if self.exclude is not None:
            free = free.scatter(1, self.exclude, False)
        free = free.scatter(1, self.fixed_at(k, users), False)
        free[:, :FIRST_ITEM] = False
        return free

    def row(self, user: int, times: int) -> Situation:
        """The situation of one user, many times."""
        candidates, exclude, fixed = (
            None if part is None else part[user : user + 1].expand(times, -1)
            for part in (self.candidates, self.exclude, self.fixed)
        )
        return replace(self, candidates=candidates, exclude=exclude, fixed=fixed)

    def fixed_at(self, k: int, users: int) -> Int[Tensor, "B K"]:
        """What the positions of slates of k items show for certain; 0 = the policy fills the position."""
        return torch.zeros(users, k, dtype=torch.int64) if self.fixed is None else self.fixed[:, :k]

    def request(self, k: int, exploration: Exploration | None) -> SlateRequest:
        """The situation as a policy reads it."""
        return SlateRequest(
            k=k,
            candidates=self.candidates,
            allowed=self.allowed,
            exclude=self.exclude,
            fixed=None if self.fixed is None else self.fixed[:, :k],
            exploration=exploration,
        )


@dataclass(frozen=True)
class _Procedure:
    """A policy as it is served: the number that its propensities must be exact for."""

    policy: Policy
    situation: Situation
    exploration: Exploration | None
    where: str

    def of(self, user: int) -> _Procedure:
        return replace(self, situation=self.situation.row(user, 1))

    def recommend(self, state: Float[Tensor, "B D"], k: int = SLATE_SIZE) -> Slates:
        request = self.situation.request(k, self.exploration)
        return self.policy.recommend(state, request, generator=Generator().manual_seed(1))

    def log_prob(self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return self.policy.log_prob(state, slate, self.situation.request(slate.shape[1], self.exploration))

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

    For every exploration, with and without candidates, exclusions and fixed positions: slates hold the fixed items
    where they belong and allowed items elsewhere, none twice, and item 0 in the last free positions where they run out;
    `log_prob` gives the numbers that `recommend` gave; the probabilities of all slates sum to one; draws come as often
    as their propensity says. `log_pi` is a distribution over the real items, and that of the inner products where the
    policy offers them.

    Args:
        policy: in evaluation mode.
        catalog: at least 8 items; the check enumerates all slates of two, so not many more than 20.
        state: some states.
        name: for messages.
        every_situation: False tries only the whole catalog, candidates with exclusions, those with fixed positions, and
            allowed items with exclusions.

    Raises:
        ContractError: the message says what was expected.
    """
    where = name or type(policy).__name__
    expect(isinstance(policy, Policy), f"{where} lacks a member of slatewise.protocols.Policy: encoder, log_pi, …")
    with torch.no_grad(), no_global_randomness(where):
        _check_single_draws(policy, catalog, state, where)
        if isinstance(policy, ScoresByInnerProduct):
            _check_inner_products(policy, policy, catalog, state, where)
        tried = situations(catalog, len(state))
        for number, situation in enumerate(tried if every_situation else (tried[0], tried[3], tried[8], tried[10])):
            for exploration in EXPLORATIONS:
                served = _Procedure(policy, situation, exploration, f"{where}, {situation.name}, {_words(exploration)}")
                _check_slates(served, catalog, state)
                user = number % len(state)
                _check_all_slates(served.of(user), catalog, state[user])
            _check_repeatable(served, state)
        _check_draws(policy, catalog, state[0], where)
        _check_refusals(policy, catalog, state, where)


def situations(catalog: Catalog, users: int) -> tuple[Situation, ...]:
    """The whole catalog; candidates with repeats, padding and the unknown item; exclusions; next to nothing left; and
    fixed positions: one to three of a slate, of items that are candidates or not; and a share of the catalog, a few
    items or none allowed to everybody.
    """
    generator = Generator().manual_seed(0)
    order = torch.rand(users, catalog.num_items, generator=generator).argsort(dim=1) + FIRST_ITEM
    repeat, reserved = order[:, :1], torch.tensor([[PAD, UNKNOWN]]).expand(users, -1)
    candidates = torch.cat([order[:, :5], repeat, reserved, order[:, 5:6]], dim=1)
    exclude = torch.cat([order[:, 1:3], reserved[:, :1], order[:, 7:8]], dim=1)
    where = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1]])[torch.arange(users) % 5]
    fixed = order[:, [0, 6, 3]] * where
    numbers = torch.arange(catalog.num_rows)
    allowed = numbers % 3 > 0
    return (
        Situation(name="whole catalog"),
        Situation(name="whole catalog with exclusions", exclude=exclude),
        Situation(name="six candidates", candidates=candidates),
        Situation(name="four candidates after exclusions", candidates=candidates, exclude=exclude),
        Situation(name="one item left", candidates=order[:, 2:4], exclude=exclude),
        Situation(name="nothing left", candidates=order[:, 1:3], exclude=exclude),
        Situation(name="no candidate at all", candidates=order[:, :0], exclude=exclude[:, :0]),
        Situation(name="whole catalog with fixed positions", fixed=fixed),
        Situation(name="candidates, exclusions, fixed positions", candidates=candidates, exclude=exclude, fixed=fixed),
        Situation(name="nothing left but fixed items", candidates=order[:, 1:3], exclude=exclude, fixed=fixed),
        Situation(name="two thirds allowed, with exclusions", allowed=allowed, exclude=exclude),
        Situation(name="a third allowed, with fixed positions", allowed=~allowed, exclude=exclude, fixed=fixed),
        Situation(name="six candidates, two thirds allowed", candidates=candidates, allowed=allowed),
        Situation(name="one item allowed", allowed=numbers == FIRST_ITEM),
        Situation(name="no item allowed", allowed=numbers < 0, exclude=exclude),
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
    every_third = items[:, FIRST_ITEM::3]
    message = f"{where}: log_pi asked for some items, against the same items among all"
    expect_close(policy.log_pi(state, every_third), log_pi[:, FIRST_ITEM::3], message, tolerance=PROBABILITY)


def _check_inner_products(
    policy: Policy, scorer: ScoresByInnerProduct, catalog: Catalog, state: Float[Tensor, "B D"], where: str
) -> None:
    vectors, bias = scorer.vectors().double(), scorer.item_bias()
    expect(
        len(vectors) == catalog.num_items and (bias is None or tuple(bias.shape) == (catalog.num_items,)),
        f"{where}: vectors and item_bias have {len(vectors)} rows; expected one a real item, {catalog.num_items}",
    )
    scores = scorer.query(state).double() @ vectors.T + (0.0 if bias is None else bias.double())
    items = torch.arange(FIRST_ITEM, catalog.num_rows).expand(len(state), -1)
    message = f"{where}: π by the inner products of query and vectors, against log_pi"
    expect_close(torch.softmax(scores, dim=1), policy.log_pi(state, items).double().exp(), message, tolerance=1e-5)


def _check_slates(served: _Procedure, catalog: Catalog, state: Float[Tensor, "B D"]) -> None:
    at, situation = served.where, served.situation
    slates = served.recommend(state)
    shape = (len(state), SLATE_SIZE)
    expect(
        tuple(slates.items.shape) == shape and tuple(slates.logp.shape) == shape,
        f"{at}: items {tuple(slates.items.shape)} and logp {tuple(slates.logp.shape)}; expected {shape}",
    )
    expect(slates.items.dtype == torch.int64, f"{at}: items are {slates.items.dtype}; expected int64")
    allowed = situation.is_free(SLATE_SIZE, catalog.num_rows, len(state))
    fixed = situation.fixed_at(SLATE_SIZE, len(state))
    for user, items in enumerate(slates.items.tolist()):
        free = allowed[user].nonzero().flatten().tolist()
        at_free = [item for item, sure in zip(items, fixed[user].tolist(), strict=True) if sure == PAD]
        length = min(len(free), len(at_free))
        expect(
            all(sure in (PAD, item) for item, sure in zip(items, fixed[user].tolist(), strict=True)),
            f"{at}: the slate {items} was served; expected the items {fixed[user].tolist()} where they are not 0",
        )
        expect(
            len(set(at_free[:length])) == length
            and set(at_free[:length]) <= set(free)
            and set(at_free[length:]) <= {PAD},
            f"{at}: the slate {items} was served; expected {length} different items of {free}, then item 0",
        )
    expect(
        bool(torch.isfinite(slates.logp).all()) and bool((slates.logp <= 0).all()),
        f"{at}: a log-propensity of what was served is {slates.logp.max().item()} to {slates.logp.min().item()}; "
        "expected finite numbers, at most 0",
    )
    logp = served.log_prob(state, slates.items)
    expect_close(logp, slates.logp, f"{at}: log_prob of what was served, against recommend().logp", tolerance=1e-6)


def _check_repeatable(served: _Procedure, state: Float[Tensor, "B D"]) -> None:
    slates, again = served.recommend(state), served.recommend(state)
    same = torch.equal(slates.items, again.items)
    expect(
        same, f"{served.where}: other slates from an equal generator: {slates.items.tolist()}, {again.items.tolist()}"
    )


def _check_all_slates(served: _Procedure, catalog: Catalog, state: Float[Tensor, "D"]) -> None:
    at = served.where
    k = 2
    numbers = torch.arange(catalog.num_rows)
    slate = torch.cartesian_prod(*[numbers] * k)
    allowed = served.situation.is_free(k, catalog.num_rows, 1)[0]
    fixed = served.situation.fixed_at(k, 1)[0]
    free = fixed == PAD
    length = min(int(free.sum()), int(allowed.sum()))
    at_free = slate[:, free]
    possible = allowed[at_free[:, :length]].all(dim=1) & (at_free[:, length:] == PAD).all(dim=1)
    possible &= (slate[:, ~free] == fixed[~free]).all(dim=1)
    if length == k:
        possible &= slate[:, 0] != slate[:, 1]
    logp = served.log_prob_of_each(state, slate)
    wrong = (~possible & (logp > -torch.inf)).nonzero().flatten().tolist()
    expect(
        not wrong,
        f"{at}: the slate {slate[wrong[0]].tolist() if wrong else []} has a probability above 0; expected −inf: "
        f"{length} different items of {allowed.nonzero().flatten().tolist()} beside {fixed.tolist()}, then item 0",
    )
    total = float(logp[possible].exp().sum())
    expect(
        abs(total - 1.0) <= PROBABILITY,
        f"{at}: the probabilities of all {int(possible.sum())} slates of {k} sum to {total:.6f}; expected 1",
    )


def _check_draws(policy: Policy, catalog: Catalog, state: Float[Tensor, "D"], where: str) -> None:
    """Propensities that agree with each other could still be wrong; how often slates come shows it."""
    exploration = Exploration(top_m=5)
    served = _Procedure(policy, Situation(name=""), exploration, where)
    first, second = served.recommend(state.expand(DRAWS, -1), k=2).items.unbind(dim=1)
    slate = torch.cartesian_prod(*[torch.arange(catalog.num_rows)] * 2)
    share = served.log_prob_of_each(state, slate).exp()
    count = torch.bincount(first * catalog.num_rows + second, minlength=len(slate))
    often = (share * DRAWS >= 10) & (share < 1)
    deviation = (count - share * DRAWS) / (share * (1 - share) * DRAWS).sqrt()
    worst = int(torch.where(often, deviation.abs(), 0.0).argmax())
    expect(
        not bool(often[worst]) or abs(float(deviation[worst])) < 5,
        f"{where}, {_words(exploration)}: {int(count[worst])} of {DRAWS} slates were {slate[worst].tolist()}; its "
        f"probability {float(share[worst]):.4f} says {float(share[worst]) * DRAWS:.0f}, and that is "
        f"{float(deviation[worst]):+.1f} standard deviations away",
    )


def _check_refusals(policy: Policy, catalog: Catalog, state: Float[Tensor, "B D"], where: str) -> None:
    first_item = torch.full((len(state), 1), FIRST_ITEM)
    twice = torch.cat([first_item, first_item], dim=1)
    requests = {
        f"a slate larger than the catalog of {catalog.num_items}": SlateRequest(k=catalog.num_items + 1),
        "a slate with an item at two fixed positions": SlateRequest(k=2, fixed=twice),
        "a slate with an excluded item at a fixed position": SlateRequest(k=1, fixed=first_item, exclude=first_item),
        "a slate with the unknown item at a fixed position": SlateRequest(
            k=1, fixed=torch.full_like(first_item, UNKNOWN)
        ),
    }
    for what, request in requests.items():
        message = f"{where}: {what} was served; expected a ValueError"
        try:
            policy.recommend(state, request, generator=Generator().manual_seed(0))
        except ValueError:
            continue
        expect(False, message)
    try:
        policy.recommend(state, SlateRequest(k=SLATE_SIZE, exploration=Exploration()))
    except ValueError:
        return
    expect(False, f"{where}: a slate was drawn without a generator; expected a ValueError")


def _words(exploration: Exploration | None) -> str:
    if exploration is None:
        return "greedy"
    return f"top_m={exploration.top_m} keep={exploration.keep} temperature={exploration.temperature:g}"
