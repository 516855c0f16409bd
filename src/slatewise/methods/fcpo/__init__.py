"""FCPO: whole lists from one forward pass, learned under a limit on how much popular items are shown.

Ge et al., "Towards Long-term Fairness in Recommendation", WSDM 2021 (arXiv 2101.03584), sec. 4.

    W ~ N(μ(s), diag σ²(s)) ∈ R^{K×E},   P = softmax(W Vᵀ),   slot k shows argmax_i P_{k,i}              (eq. 7–9)
    max E[Σ γ^t r_t]   subject to   E[cost of a list] ≤ limit,   cost = share of popular items              (eq. 6)

The optimiser is constrained policy optimisation (Achiam et al. 2017): in a trust region, the best step that keeps the
limit to first order, by the closed form of its dual; where no point of the region keeps it, a recovery step straight
down the cost; then a line search.

Nothing keeps two rows of W from the same item, so what a slot took is closed to the later ones. Served at W = μ, row k
is a softmax over what is left: the propensity of a list is then exact, which the integral over W is not. Lists that
were drawn this way teach by that propensity; `update(…, rows=W)` is the paper's form, by the density of the drawn W.

A log of single items has no lists. There, the next K items that a user liked are the list he should have been shown:
they are imitated, and the share of popular items that the rows give is held by a multiplier.

Deviations: every slot has its own gain (what it earned and what followed its list); the item vectors V learn from
imitation alone and stand still in the trust region; the cost counts without discount against the limit; where costs are
a matter of exposure, V has one more column that marks the popular items, so that rows can turn from all of them alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import ratings
from slatewise.errors import located
from slatewise.item_vectors.ratings import factorise
from slatewise.log import FIRST_ITEM, PAD, Catalog, LogPart
from slatewise.methods.fcpo.exposure import Exposure
from slatewise.methods.fcpo.gaussian_lists import Drawn, GaussianListHead, RowGaussians, RowSoftmaxes
from slatewise.methods.fcpo.slot_critic import SlotCritic
from slatewise.methods.fcpo.weight_step import TrustRegion
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import ItemTable
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops import list_rows
from slatewise.ops.initial import normal_
from slatewise.ops.list_rows import NEG_INF
from slatewise.ops.returns import discounted_returns, threshold
from slatewise.ops.shown_rows import at_steps
from slatewise.policies.listed import ListedPolicy, numbers
from slatewise.protocols import StateEncoder
from slatewise.schedules import Schedule, value_at
from slatewise.types import SlateRequest, Trajectories

DEFAULT_ENCODER = "gru"
LESS = 0.9
"""Of a step that is refused, the share that is tried next."""
MARGIN = 0.01
"""By how much a recent cost may lie above its limit and count as keeping it."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the lists, the limit and the trust region."""

    slate_size: int = 10
    """K: rows of W. Slots beyond it read the last row."""
    width: int = 32
    """E."""
    hidden: int = 0
    """Width of a layer between state and rows; 0 = the rows read the state."""
    vectors: Literal["learned", "factors", "features"] = "learned"
    """V: learned by imitation, factors of the training ratings, or features of the catalog."""
    temperature: float = 1.0
    """τ: logits are W Vᵀ / τ."""
    cost_limit: float | None = None
    """Most that an item shown may cost in the mean: .4 with popular items at 1 are 4 of 10 places; None = no limit."""
    costs: Literal["logged", "exposure"] = "logged"
    """logged: as the steps say; exposure: 1 for the popular items, the `popular_share` that were shown most."""
    popular_share: float = 0.2
    """Share of the catalog that is popular."""
    mark: float = 10.0
    """What the vectors of popular items hold in a column of their own, with costs = exposure; the larger, the more a
    step that lowers the cost turns from all popular items alike, and the less it bends what rows say of single ones."""
    exposure_memory: float = 1.0
    """What an exposure still counts one update later."""
    regroup_every: int = 0
    """Updates after which the popular items are chosen anew by exposure; 0 = once."""
    constraint: Literal["trust_region", "lagrangian"] = "trust_region"
    """lagrangian: a price on cost in the objective, raised while the limit is not kept and lowered while it is."""
    multiplier_lr: float = 0.5
    """By how much a unit of cost above its limit raises that price in one update."""
    multiplier_gain: float = 0.0
    """What a unit of cost above its limit adds to that price for the moment; damps its swings (Stooke et al. 2020)."""
    max_kl: float | Schedule = 1e-4
    """δ: divergence of the lists' distribution in one update, mean over states."""
    damping: float = 1e-2
    """Added to the diagonal of H."""
    cg_iterations: int = 10
    line_search: int = 20
    """Steps of the line search, each .9 of the one before."""
    fisher_states: int = 128
    """States that H is a mean over."""
    gamma: float = 0.99
    critic_lr: float = 0.05
    critic_steps: int = 10
    """Steps of both critics in one update."""
    critic_hidden: int = 32
    reward_at_least: float | None = None
    """Reward is 1 where it is at least this, else 0; None takes it as it is."""
    lr: float | Schedule = 3e-3
    """Of imitation."""
    imitation_states: int = 256
    """States that one update imitates, at most."""
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("slate_size", "width", "cg_iterations", "line_search", "fisher_states", "critic_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("temperature", "mark", "max_kl", "damping", "critic_lr", "lr"):
            if not value_at(getattr(self, name), 0) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if not 0 < self.popular_share < 1:
            raise ValueError(f"popular_share is {self.popular_share}; expected a share in (0, 1)")
        if not 0 < self.exposure_memory <= 1:
            raise ValueError(f"exposure_memory is {self.exposure_memory}; expected a share in (0, 1]")
        if self.hidden < 0 or self.regroup_every < 0 or self.multiplier_lr < 0 or self.multiplier_gain < 0:
            raise ValueError("hidden, regroup_every, multiplier_lr and multiplier_gain must be 0 or more")
        if self.cost_limit is not None and self.cost_limit < 0:
            raise ValueError(f"cost_limit is {self.cost_limit}; expected 0 or more, or none at all")


class Policy(ListedPolicy):
    """Rows of W from the state, and lists by softmax of their products with V."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        items = catalog.num_items
        if items == 1:
            raise ValueError("the catalog has one item: there is nothing to choose, so nothing to learn")
        if config.slate_size > items:
            raise ValueError(f"slate_size is {config.slate_size}, the catalog has {items} items")
        popular = int(config.popular_share * items)
        least = max(0, config.slate_size - (items - popular)) / config.slate_size
        if config.costs == "exposure" and config.cost_limit is not None and least > config.cost_limit:
            raise ValueError(
                f"cost_limit {config.cost_limit:g} cannot be met: {popular} of {items} items are popular, so the least "
                f"cost of a list of {config.slate_size} is {least:g}"
            )
        super().__init__(encoder, ItemTable(catalog.num_rows, config.width), temperature=config.temperature)
        marked = config.costs == "exposure"
        width = config.width + marked
        self.head = GaussianListHead(encoder.width, config.slate_size, width, hidden=config.hidden, generator=generator)
        self.register_buffer("popular", torch.zeros(catalog.num_rows, int(marked)))
        self.popular: Float[Tensor, "rows M"]
        """The last column of V: the mark of popular items; of width 0 where nobody says which they are."""
        self.marked_by = config.mark
        if generator is not None:
            normal_(self.item.weight, config.width**-0.5, generator)
            with torch.no_grad():
                self.item.weight[:FIRST_ITEM] = 0.0
                if marked:
                    self.head.start_at_zero(config.width, spread=1 / config.mark)

    def vectors(self, items: Int[Tensor, "*A"] | None = None) -> Float[Tensor, "*A E"]:
        """V with the mark of the popular items."""
        own = super().vectors(items)
        return torch.cat([own, self.popular if items is None else self.popular[items]], dim=-1)

    def mark(self, popular: Bool[Tensor, " rows"]) -> None:
        """Say which items are popular now."""
        self.popular.copy_(self.marked_by * popular.unsqueeze(1).expand_as(self.popular))

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """μ of the first k rows."""
        mean: Tensor = self.head(state, k)[0]
        return mean

    def draw(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator
    ) -> tuple[Float[Tensor, "B K E"], Int[Tensor, "B K"]]:
        """W drawn from the Gaussian, and its list, row by row the best item that is left (eq. 7–9)."""
        mean, log_std = self.head(state, request.k)
        rows = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=generator)
        logits, items = self.open_logits(rows, request)
        return rows, numbers(list_rows.draw_rows(logits, None, None), items)


class Learner:
    """Constrained policy optimisation on lists; imitation on a log of single items."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.catalog = catalog
        self.generator = generator
        self.critics = {
            name: SlotCritic(
                encoder.width,
                config.slate_size,
                hidden=config.critic_hidden,
                lr=config.critic_lr,
                steps=config.critic_steps,
                generator=generator,
            )
            for name in ("reward", "cost")
        }
        fixed = set() if config.vectors == "learned" else {id(self.policy.item.weight)}
        self.parameters = [p for p in self.policy.parameters() if p.requires_grad and id(p) not in fixed]
        self.optimiser = torch.optim.Adam(self.parameters, lr=value_at(config.lr, 0), fused=True)
        self.region = TrustRegion([p for p in self.parameters if p is not self.policy.item.weight])
        self.exposure = Exposure(
            catalog.num_rows,
            share=config.popular_share,
            memory=config.exposure_memory,
            regroup_every=config.regroup_every,
        )
        self.multiplier = 0.0
        self.updates = 0
        self.recoveries = 0
        """Steps that went straight down the cost because no point of the region kept the limit."""
        self.recent_cost = 0.0
        self.least_cost = float("inf")
        let_dropout_draw(encoder, generator)

    def prepare(self, part: LogPart) -> None:
        """Read the popular items, and V where it is pretrained, off the training part of a log.

        Raises:
            InputError: no rating in the training part.
            ValueError: features that cannot be V.
        """
        given = ratings(part, num_rows=self.catalog.num_rows)
        self.start_exposure(given.counts().float())
        if self.config.vectors == "features":
            self.policy.set_vectors(torch.from_numpy(np.ascontiguousarray(self.catalog.features, dtype=np.float32)))
        elif self.config.vectors == "factors":
            vectors = factorise(given, width=self.config.width, generator=self.generator).item
            vectors = vectors / vectors.std().clamp(min=1e-6) * self.config.width**-0.5
            # what nobody rated has no factors, and stays where it was drawn
            unrated = (self.exposure.counts == 0).unsqueeze(1)
            self.policy.set_vectors(torch.where(unrated, self.policy.item.weight.detach(), vectors))

    def start_exposure(self, counts: Float[Tensor, " rows"]) -> None:
        """Begin with how often each item was shown."""
        self.exposure.start(counts)
        self.policy.mark(self.exposure.popular)

    def check_log(self, part: LogPart) -> None:
        """Refuse a log that nothing can be learned from, before any time is spent on it.

        Raises:
            ValueError: no reward counts.
        """
        rewards, at_least = part.rewards(), self.config.reward_at_least
        counts = rewards != 0 if at_least is None else rewards >= at_least
        if not counts.any():
            what = "is 0" if at_least is None else f"is below reward_at_least = {at_least:g}"
            raise ValueError(f"every reward of the training part {what}, so no list can be made of what users liked")

    def update(self, trajectories: Trajectories, rows: Float[Tensor, "B T K E"] | None = None) -> dict[str, float]:
        """One step on a batch: of lists by constrained policy optimisation, of single items by imitation.

        Args:
            trajectories: what was shown and how it was answered; lists that the policy drew itself, from all that
                could be shown (top_m ≥ items, temperature 1).
            rows: the W that each list came from, where the policy drew from its Gaussian.

        Returns:
            For lists: loss, minus what the step gained to first order; reward_loss and cost_loss, of the critics;
            reward, of a list; cost, of an item shown; kl; multiplier; recovery, 1 for a recovery step; moved, the
            share of the step that the line search left. For single items: loss, −mean log-probability of an item of
            the list; cost; multiplier.

        Raises:
            InputError: lists longer than slate_size, or items that the catalog does not have.
        """
        size = trajectories.slate.shape[2]
        highest = int(trajectories.slate.max()) if trajectories.slate.numel() else 0
        if highest >= self.policy.num_rows:
            raise located(
                f"a slate shows item number {highest}, the catalog ends at {self.policy.num_rows - 1}",
                advice="Number the items of the log by the policy's own catalog.",
            )
        if size > self.config.slate_size:
            raise located(
                f"the log shows lists of {size}, slate_size is {self.config.slate_size}",
                advice=f"Set method.slate_size to {size} or more.",
            )
        if size == 1 and self.config.slate_size > 1:
            return self._imitate(trajectories)
        steps = trajectories.learn & (trajectories.slate >= FIRST_ITEM).any(dim=2)
        if not bool(steps.any()):
            return {"loss": 0.0}
        return self._improve(trajectories, steps, rows)

    def violation(self) -> str | None:
        """What to tell of a cost limit that learning has not met; None where there is none, or it is met."""
        limit = self.config.cost_limit
        if limit is None or not self.updates or self.recent_cost <= limit + MARGIN:
            return None
        return (
            f"the cost limit {limit:g} was not met: {self.recent_cost:.3f} after {self.updates} updates, and the least "
            f"cost reached is {self.least_cost:.3f}. Raise method.cost_limit, or learn longer or in larger steps "
            "(method.max_kl)."
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, moments, critics, exposure, counters and the generator."""
        flat = flat_state(self.policy, self.optimiser, self.generator)
        for name, critic in self.critics.items():
            flat |= {f"{name}_critic.{key}": value for key, value in critic.state_dict().items()}
        flat |= {f"exposure.{key}": value for key, value in self.exposure.state_dict().items()}
        counters = [self.multiplier, self.updates, self.recoveries, self.recent_cost, self.least_cost]
        return flat | {"counters": torch.tensor(counters, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        for name, critic in self.critics.items():
            critic.load_state_dict(under(f"{name}_critic.", state))
        self.exposure.load_state_dict(under("exposure.", state))
        multiplier, updates, recoveries, recent, least = state["counters"].tolist()
        self.multiplier, self.recent_cost, self.least_cost = multiplier, recent, least
        self.updates, self.recoveries = round(updates), round(recoveries)

    def _improve(
        self, trajectories: Trajectories, steps: Bool[Tensor, "B T"], rows: Float[Tensor, "B T K E"] | None
    ) -> dict[str, float]:
        """Gains by the critics, the step of the trust region, the line search, then the critics."""
        config, policy = self.config, self.policy
        max_kl = value_at(config.max_kl, self.updates)
        policy.eval()  # the same network at both ends of the step
        slate = trajectories.slate[steps]
        shown = slate >= FIRST_ITEM
        mask = (trajectories.mask.unsqueeze(2) & (trajectories.slate >= FIRST_ITEM)).float()
        reward = threshold(trajectories.reward, config.reward_at_least) * mask
        cost = self._costs(trajectories) * mask / mask.sum(dim=2, keepdim=True).clamp(min=1)
        now = float(cost[steps].sum(dim=1).mean())
        excess = now - (config.cost_limit or 0.0)

        def outputs(played: Trajectories = trajectories, at: Tensor = steps) -> Tensor:
            return policy.head.both(at_steps(policy.encoder(played), at), slate.shape[1])

        state = at_steps(policy.encoder(trajectories), steps)
        out = policy.head.both(state, slate.shape[1])
        state = state.detach()
        # H is a mean over whole rows of the batch, so that only those have to be encoded for a product with it
        users = slice(None, None, -(-len(slate) // config.fisher_states))
        users = users if bool(steps[users].any()) else slice(None)
        few, few_steps = trajectories.rows(users), steps[users]
        some = torch.zeros_like(steps)
        some[users] = few_steps
        drawn = self._drawn(out.detach(), trajectories, steps, rows, some[steps])
        parts = {"reward": self._parts(reward, trajectories, steps), "cost": self._parts(cost, trajectories, steps)}
        gain = {name: self.critics[name].advantage(state, part, shown) for name, part in parts.items()}

        def surrogate(log_p: Float[Tensor, "P K"], name: str) -> Float[Tensor, ""]:
            """Σ (π/π_old − 1) · gain over the slots of a list, mean over lists: by how much the policy is better."""
            return ((torch.exp(log_p - drawn.log_p) - 1) * gain[name] * shown).sum() / len(slate)

        # max gᵀx  s.t.  c + bᵀx ≤ 0,  ½ xᵀHx ≤ δ
        g = self.region.gradient(out, drawn.slope(gain["reward"]))
        price = max(0.0, self.multiplier + config.multiplier_gain * excess)
        b = self.region.gradient(out, drawn.slope(gain["cost"])) if config.cost_limit is not None else None
        if b is not None and config.constraint == "lagrangian":
            g, b = (g - price * b) / (1 + price), None
        product = self.region.curvature(lambda: outputs(few, few_steps), drawn.metric, damping=config.damping)
        step, x = self.region.step(g, b, excess=excess, product=product, max_kl=max_kl, iterations=config.cg_iterations)

        kl = gained = 0.0

        @torch.no_grad()
        def fits() -> float:
            nonlocal kl, gained
            log_p, divergence = drawn.compare(outputs())
            kl = float(divergence)
            if not kl <= max_kl:
                return min(LESS, math.sqrt(max_kl / kl)) if kl < math.inf else 0.5
            gained, spent = float(surrogate(log_p, "reward")), float(surrogate(log_p, "cost"))
            if config.cost_limit is None:
                better = gained >= 0
            elif config.constraint == "lagrangian":
                better = gained - price * spent >= 0
            else:
                # above the limit, what counts is that the cost falls
                better = spent <= 0 if excess > 0 else spent <= -excess and gained >= 0
            return 1.0 if better else LESS

        moved = self.region.search(x, fits, tries=config.line_search)
        losses = {
            f"{name}_loss": self.critics[name].fit(state, part, shown, clip_norm=config.clip_norm)
            for name, part in parts.items()
        }
        self.recoveries += step.case == "recovery"
        self._count(slate)
        self._remember(now)
        return {
            "loss": -gained if moved else 0.0,
            **losses,
            "reward": float(reward[steps].sum(dim=1).mean()),
            "cost": now,
            "kl": kl if moved else 0.0,
            "multiplier": self.multiplier if config.constraint == "lagrangian" else step.price,
            "recovery": float(step.case == "recovery"),
            "moved": moved,
        }

    def _imitate(self, trajectories: Trajectories) -> dict[str, float]:
        """Likelihood of the lists that the next liked items make; the limit by a multiplier."""
        config, policy = self.config, self.policy
        item = trajectories.slate[:, :, 0].masked_fill(~trajectories.mask, PAD)
        reward = threshold(trajectories.reward[:, :, 0], config.reward_at_least)
        lists = list_rows.next_lists(item, trajectories.mask & (item >= FIRST_ITEM) & (reward > 0), config.slate_size)
        at = (trajectories.learn & (lists >= FIRST_ITEM).any(dim=2)).nonzero()
        if not len(at):
            return {"loss": 0.0, "cost": 0.0, "multiplier": self.multiplier}
        if len(at) > config.imitation_states:
            at = at[torch.randperm(len(at), generator=self.generator)[: config.imitation_states]]
        steps = torch.zeros_like(trajectories.learn)
        steps[at[:, 0], at[:, 1]] = True
        slate = lists[steps]
        shown = slate >= FIRST_ITEM
        self._count(item[trajectories.learn])
        policy.train()
        out = policy.head.both(at_steps(policy.encoder(trajectories), steps), config.slate_size)
        real = (torch.arange(policy.num_rows) >= FIRST_ITEM).unsqueeze(0)
        logits = policy.logits(out[..., : policy.head.width]).masked_fill_(
            list_rows.closed_columns(slate, real), NEG_INF
        )
        log_p = torch.log_softmax(logits, dim=2)
        chosen = log_p.gather(2, slate.unsqueeze(2)).squeeze(2)[shown]
        with torch.set_grad_enabled(self.multiplier > 0):
            # what rows cost in the mean is known without drawing
            cost = (log_p.exp() @ self.exposure.popular.float())[shown].mean()
        loss = -chosen.mean()
        excess = cost - (config.cost_limit or 0.0)
        descend(loss + self.multiplier * excess, self.parameters, self.optimiser, config.clip_norm, lr=config.lr)
        policy.eval()
        self._remember(float(cost.detach()))
        return {"loss": float(loss.detach()), "cost": float(cost.detach()), "multiplier": self.multiplier}

    def _drawn(
        self,
        old: Float[Tensor, "P K E2"],
        trajectories: Trajectories,
        steps: Bool[Tensor, "B T"],
        rows: Float[Tensor, "B T K E"] | None,
        some: Bool[Tensor, " P"],
    ) -> Drawn:
        """What was drawn, as the distribution that it was drawn from has it."""
        slate = trajectories.slate[steps]
        if rows is not None:
            return RowGaussians(old, rows[steps], slate, some)
        vectors = self.policy.vectors().detach() / self.policy.temperature
        candidates = None if trajectories.candidates is None else trajectories.candidates[:, :-1][steps]
        open_items = None if candidates is None else list_rows.open_columns(candidates, len(vectors))
        return RowSoftmaxes(old, vectors, slate, open_items, some)

    def _costs(self, trajectories: Trajectories) -> Float[Tensor, "B T K"]:
        return trajectories.cost if self.config.costs == "logged" else self.exposure.popular[trajectories.slate].float()

    def _parts(
        self, value: Float[Tensor, "B T K"], trajectories: Trajectories, steps: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "P K1"]:
        """What each slot gave itself, and in the last column what followed its list."""
        total = value.sum(dim=2)
        ends = trajectories.terminated | trajectories.truncated
        follows = discounted_returns(total, self.config.gamma, ends=ends) - total
        return torch.cat([value, follows.unsqueeze(2)], dim=2)[steps]

    def _count(self, items: Int[Tensor, "*A"]) -> None:
        """What was shown, and what is popular by it."""
        self.exposure.count(items)
        self.policy.mark(self.exposure.popular)

    def _remember(self, cost: float) -> None:
        """The cost of this update, and the price on it."""
        self.recent_cost = 0.8 * self.recent_cost + 0.2 * cost if self.updates else cost
        self.least_cost = min(self.least_cost, cost)
        self.updates += 1
        if self.config.cost_limit is not None:
            excess = cost - self.config.cost_limit
            self.multiplier = max(0.0, self.multiplier + self.config.multiplier_lr * excess)
