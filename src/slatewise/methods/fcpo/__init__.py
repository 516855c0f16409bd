"""FCPO: whole lists from one forward pass, learned under a limit on how much popular items are shown.

Ge et al., "Towards Long-term Fairness in Recommendation", WSDM 2021 (arXiv 2101.03584), sec. 4.

    W ~ N(μ(s), diag σ²(s)) ∈ R^{K×E},   P = softmax(W Vᵀ),   slot k shows argmax_i P_{k,i}              (eq. 7–9)
    max E[Σ γ^t r_t]   subject to   E[cost of a list] ≤ limit,   cost = share of popular items              (eq. 6)

The optimiser is constrained policy optimisation (Achiam et al. 2017): in a trust region, the best step that keeps the
limit to first order, by the closed form of its dual; where no point of the region keeps it, a recovery step straight
down the cost; then a line search.

Nothing keeps two rows of W from the same item, so an item that a slot took is closed to the later ones. Served at
W = μ, row k is a softmax over what is left: the propensity of a list is then exact, which the integral over W is not.
Lists that were drawn this way teach by that propensity; `update(…, rows=W)` is the paper's form, by the density of W.

A log of single items has no lists. There, the next K items that a user liked are the list to show: they are imitated,
and the share of popular items that the rows give is held by a multiplier (`pretraining`).

Deviations: every slot has its own advantage (its reward and the return after its list); the item vectors V learn from
imitation alone and stand still in the trust region; the cost counts without discount against the limit; where costs are
a matter of exposure, V has one more column that marks the popular items, so that rows can turn from them all.

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import ratings
from slatewise.item_vectors.ratings import factorise
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.methods.fcpo.constraint import ConstraintMonitor, MultiplierConfig
from slatewise.methods.fcpo.exposure import Exposure, ExposureConfig
from slatewise.methods.fcpo.gaussian_lists import GaussianListPolicy
from slatewise.methods.fcpo.list_batch import ListBatch, check_slates, read_lists
from slatewise.methods.fcpo.pretraining import Imitation, ImitationConfig, check_rewards
from slatewise.methods.fcpo.slot_critic import SlotCritic, SlotCriticConfig
from slatewise.methods.fcpo.trust_region import Step
from slatewise.methods.fcpo.weight_step import LineSearch, TrustRegion, TrustRegionConfig
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops.returns import threshold
from slatewise.protocols import StateEncoder
from slatewise.schedules import value_at
from slatewise.types import Phase, Trajectories

__all__ = [
    "DEFAULT_ENCODER",
    "Config",
    "ExposureConfig",
    "ImitationConfig",
    "Learner",
    "MultiplierConfig",
    "Policy",
    "SlotCriticConfig",
    "TrustRegionConfig",
]
DEFAULT_ENCODER = "gru"
SHRINK = 0.9
"""Of a step that is refused, the share that is tried next."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the lists, the limit and the trust region."""

    slate_size: int = 10
    """K: rows of W. Slots beyond it read the last row."""
    width: int = 32
    """E."""
    hidden: int = 0
    """Width of a layer between state and rows; 0 = the rows read the state."""
    temperature: float = 1.0
    """τ: logits are W Vᵀ / τ."""
    gamma: float = 0.99
    """Discount per step of the session."""
    cost_limit: float | None = None
    """Most that an item shown may cost in the mean: .4 with popular items at 1 are 4 of 10 slots; None = no limit."""
    costs: Literal["logged", "exposure"] = "logged"
    """logged: as the steps say; exposure: 1 for the popular items, those that were shown most."""
    popular: ExposureConfig = field(default_factory=ExposureConfig)
    trust_region: TrustRegionConfig = field(default_factory=TrustRegionConfig)
    critic: SlotCriticConfig = field(default_factory=SlotCriticConfig)
    """Two critics, of reward and of cost."""
    constraint: Literal["trust_region", "lagrangian"] = "trust_region"
    """lagrangian: a multiplier on cost in the objective, raised while the limit is not kept, lowered while it is."""
    multiplier: MultiplierConfig = field(default_factory=MultiplierConfig)
    vectors: Literal["learned", "factors", "features"] = "learned"
    """V: learned by imitation, factors of the training ratings, or features of the catalog."""
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    reward_at_least: float | None = None
    """Reward is 1 where it is at least this, else 0; None takes it as it is."""
    clip_norm: float = 5.0
    """Upper limit of the gradient's norm, for critics and imitation."""

    def __post_init__(self) -> None:
        for name in ("slate_size", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.hidden < 0:
            raise ValueError(f"hidden is {self.hidden}; expected 0 (none) or a width")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; expected a number above 0")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if self.cost_limit is not None and self.cost_limit < 0:
            raise ValueError(f"cost_limit is {self.cost_limit}; expected 0 or more, or none at all")


class Policy(GaussianListPolicy):
    """W ~ N(μ(s), diag σ²(s)), and lists by softmax of W Vᵀ."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        items = catalog.num_items
        if items == 1:
            raise ValueError("the catalog has one item: there is nothing to choose, so nothing to learn")
        if config.slate_size > items:
            raise ValueError(f"slate_size is {config.slate_size}, the catalog has {items} items")
        by_exposure = config.costs == "exposure"
        popular = config.popular.num_popular(items)
        least = max(0, config.slate_size - (items - popular)) / config.slate_size
        if by_exposure and config.cost_limit is not None and least > config.cost_limit:
            raise ValueError(
                f"cost_limit {config.cost_limit:g} cannot be met: {popular} of {items} items are popular, so the least "
                f"cost of a list of {config.slate_size} is {least:g}"
            )
        if catalog.content is not None and config.vectors != "learned":
            raise ValueError(f'vectors = "{config.vectors}" stand still; items.content needs vectors = "learned"')
        super().__init__(
            encoder,
            catalog.num_rows,
            slots=config.slate_size,
            width=config.width,
            hidden=config.hidden,
            temperature=config.temperature,
            mark=config.popular.mark if by_exposure else None,
            content=catalog.content,
            generator=generator,
        )


class Learner:
    """Constrained policy optimisation on lists; imitation on a log of single items."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.catalog = catalog
        self.generator = generator
        self.critics = {
            name: SlotCritic(config.critic, state_width=encoder.width, slots=config.slate_size, generator=generator)
            for name in ("reward", "cost")
        }
        fixed = set() if config.vectors == "learned" else {id(self.policy.item.weight)}
        weights = [p for p in self.policy.parameters() if p.requires_grad and id(p) not in fixed]
        self.imitation = Imitation(
            config.imitation, self.policy, weights, clip_norm=config.clip_norm, generator=generator
        )
        of_vectors = {id(weight) for weight in self.policy.item.parameters()}
        self.region = TrustRegion([p for p in weights if id(p) not in of_vectors])
        self.exposure = Exposure(config.popular, catalog.num_rows)
        self.constraint = ConstraintMonitor(config.multiplier, limit=config.cost_limit)
        self.imitates = False
        """The log shows single items, which can only be imitated."""
        let_dropout_draw(self.policy, generator)

    def prepare(self, part: LogPart) -> None:
        """Read the popular items, and V where it is pretrained, off the training part of a log.

        Raises:
            InputError: no rating in the training part.
            ValueError: features that cannot be V.
        """
        self.imitates = self._shows_single_items(part.interactions.slate_size)
        training_ratings = ratings(part, num_rows=self.catalog.num_rows)
        self.start_exposure(training_ratings.counts().float())
        if self.config.vectors == "features":
            self.policy.set_vectors(torch.from_numpy(np.ascontiguousarray(self.catalog.features, dtype=np.float32)))
        elif self.config.vectors == "factors":
            vectors = factorise(training_ratings, width=self.config.width, generator=self.generator).item
            vectors = vectors / vectors.std().clamp(min=1e-6) * self.config.width**-0.5
            # what nobody rated has no factors, and stays where it was drawn
            unrated = (self.exposure.counts == 0).unsqueeze(1)
            self.policy.set_vectors(torch.where(unrated, self.policy.item.weight.detach(), vectors))

    def start_exposure(self, counts: Float[Tensor, " rows"]) -> None:
        """Start from how often each item was shown."""
        self.exposure.start(counts)
        self.policy.mark_popular(self.exposure.popular)

    def check_log(self, part: LogPart) -> None:
        """Refuse a log that nothing can be learned from, before any time is spent on it.

        Raises:
            ValueError: no reward counts.
        """
        imitates = self._shows_single_items(part.interactions.slate_size)
        check_rewards(part, self.config.reward_at_least, single_items=imitates)

    @property
    def phase(self) -> Phase:
        """Imitation of what users liked, all along where a log shows single items; else the trust region."""
        return Phase(name="imitation" if self.imitates else "constrained policy optimisation", last=True)

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
        check_slates(trajectories.slate, num_rows=self.policy.num_rows, slate_size=self.config.slate_size)
        self.imitates = self._shows_single_items(trajectories.slate.shape[2])
        if self.imitates:
            return self._imitate(trajectories)
        steps = trajectories.learn & (trajectories.slate >= FIRST_ITEM).any(dim=2)
        if not bool(steps.any()):
            return {"loss": 0.0}
        return self._improve(trajectories, steps, rows)

    def _shows_single_items(self, size: int) -> bool:
        return size == 1 < self.config.slate_size

    def _improve(
        self, trajectories: Trajectories, steps: Bool[Tensor, "B T"], rows: Float[Tensor, "B T K E"] | None
    ) -> dict[str, float]:
        """Batch → advantages → direction → line search → critics."""
        self.policy.eval()  # the same network at both ends of the step
        by_exposure = self.config.costs == "exposure"
        batch = read_lists(
            self.policy,
            trajectories,
            steps,
            rows=rows,
            reward=threshold(trajectories.reward, self.config.reward_at_least),
            item_cost=self.exposure.popular[trajectories.slate].float() if by_exposure else trajectories.cost,
            gamma=self.config.gamma,
            fisher_states=self.config.trust_region.fisher_states,
        )
        advantages = {
            name: critic.advantage(batch.state, batch.returns[name], batch.slot_mask)
            for name, critic in self.critics.items()
        }
        excess = self.constraint.excess(batch.mean_cost)
        penalty = self.constraint.penalty(excess)
        step, direction = self._direction(batch, advantages, excess, penalty)
        result = self._line_search(direction, batch, advantages, excess, penalty)
        losses = {
            f"{name}_loss": critic.fit(
                batch.state, batch.returns[name], batch.slot_mask, clip_norm=self.config.clip_norm
            )
            for name, critic in self.critics.items()
        }
        self._count_exposure(batch.slate)
        self.constraint.record(batch.mean_cost, recovery=step.case == "recovery")
        by_multiplier = self.config.constraint == "lagrangian"
        return {
            "loss": -result.reward_advantage if result.share else 0.0,
            **losses,
            "reward": batch.mean_reward,
            "cost": batch.mean_cost,
            "kl": result.kl,
            "multiplier": self.constraint.multiplier if by_multiplier else step.penalty,
            "recovery": float(step.case == "recovery"),
            "moved": result.share,
        }

    def _direction(
        self, batch: ListBatch, advantages: Mapping[str, Float[Tensor, "P K"]], excess: float, penalty: float
    ) -> tuple[Step, Float[Tensor, " M"]]:
        """The step of max gᵀx  s.t.  c + bᵀx ≤ 0,  ½ xᵀHx ≤ δ, or of (g − penalty · b) without the constraint."""
        settings, b = self.config.trust_region, None
        max_kl = value_at(settings.max_kl, self.constraint.updates)
        g = self.region.gradient(batch.outputs, batch.drawn.slope(advantages["reward"]))
        if self.config.cost_limit is not None:
            b = self.region.gradient(batch.outputs, batch.drawn.slope(advantages["cost"]))
            if self.config.constraint == "lagrangian":
                g, b = (g - penalty * b) / (1 + penalty), None
        sample, sample_steps = batch.trajectories.rows(batch.sampled_users), batch.steps[batch.sampled_users]
        product = self.region.curvature(
            lambda: self.policy.head_outputs(sample, sample_steps), batch.drawn.metric, damping=settings.damping
        )
        return self.region.step(
            g,
            b,
            excess=excess,
            product=product,
            max_kl=max_kl,
            iterations=settings.cg_iterations,
            reward_size=float(batch.returns["reward"].square().mean()),
            cost_size=float(batch.returns["cost"].square().mean()),
        )

    def _line_search(
        self,
        direction: Float[Tensor, " M"],
        batch: ListBatch,
        advantages: Mapping[str, Float[Tensor, "P K"]],
        excess: float,
        penalty: float,
    ) -> LineSearch:
        """Move the weights along the direction as far as the divergence and the surrogates allow."""
        max_kl = value_at(self.config.trust_region.max_kl, self.constraint.updates)
        trials = [LineSearch(share=0.0)]

        def surrogate(log_p: Float[Tensor, "P K"], name: str) -> float:
            """Σ (π/π_old − 1) · advantage over the slots of a list, mean over lists."""
            better = (torch.exp(log_p - batch.drawn.log_p) - 1) * advantages[name] * batch.slot_mask
            return float(better.sum() / len(batch.slate))

        @torch.no_grad()
        def accept() -> float:
            log_p, divergence = batch.drawn.compare(self.policy.head_outputs(batch.trajectories, batch.steps))
            kl = float(divergence)
            if not kl <= max_kl:
                # a divergence grows with the square of the step
                return min(SHRINK, math.sqrt(max_kl / kl)) if kl < math.inf else 0.5
            reward, cost = surrogate(log_p, "reward"), surrogate(log_p, "cost")
            trials.append(LineSearch(share=0.0, kl=kl, reward_advantage=reward))
            return 1.0 if self._is_better(reward, cost, excess, penalty) else SHRINK

        share = self.region.search(direction, accept, tries=self.config.trust_region.line_search)
        return trials[-1]._replace(share=share) if share else trials[0]

    def _is_better(self, reward: float, cost: float, excess: float, penalty: float) -> bool:
        """Whether changes of reward and cost are worth a step."""
        if self.config.cost_limit is None:
            return reward >= 0
        if self.config.constraint == "lagrangian":
            return reward - penalty * cost >= 0
        # above the limit, what counts is that the cost falls
        return cost <= 0 if excess > 0 else cost <= -excess and reward >= 0

    def _imitate(self, trajectories: Trajectories) -> dict[str, float]:
        """Likelihood of the lists that the next liked items make; the limit by the multiplier."""
        multiplier = self.constraint.multiplier
        batch = self.imitation.demonstrations(trajectories, reward_at_least=self.config.reward_at_least)
        if batch is None:
            return {"loss": 0.0, "cost": 0.0, "multiplier": multiplier}
        self._count_exposure(batch.shown_items)
        loss, cost = self.imitation.step(
            batch,
            item_costs=self.exposure.popular.float(),
            multiplier=multiplier,
            limit=self.config.cost_limit or 0.0,
        )
        self.constraint.record(cost)
        return {"loss": loss, "cost": cost, "multiplier": self.constraint.multiplier}

    def _count_exposure(self, items: Int[Tensor, "*A"]) -> None:
        """Count what was shown, and mark what is popular by it."""
        self.exposure.count(items)
        self.policy.mark_popular(self.exposure.popular)

    def violation(self) -> str | None:
        """A warning if the cost limit is not met after learning; None where there is none, or it is met."""
        return self.constraint.violation()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, moments, critics, exposure, counters and the generator."""
        flat = flat_state(self.policy, self.imitation.optimiser, self.generator)
        for name, critic in self.critics.items():
            flat |= {f"{name}_critic.{key}": value for key, value in critic.state_dict().items()}
        flat |= {f"exposure.{key}": value for key, value in self.exposure.state_dict().items()}
        return flat | {f"constraint.{key}": value for key, value in self.constraint.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.imitation.optimiser, self.generator, state)
        for name, critic in self.critics.items():
            critic.load_state_dict(under(f"{name}_critic.", state))
        self.exposure.load_state_dict(under("exposure.", state))
        self.constraint.load_state_dict(under("constraint.", state))
