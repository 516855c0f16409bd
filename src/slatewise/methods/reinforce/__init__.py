"""REINFORCE with top-K off-policy correction.

Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System", WSDM 2019 (arXiv 1812.02353).

    ∇J = Σ_t  min(π/β, c) · λ_K · R_t · ∇ log π(a_t | s_t)          (eq. 3, 6–8)

π and β share the state; β's head stops the gradient (sec. 4.2). π learns from rewarded items, β from all.

Deviations: a self-normalised baseline can be subtracted, and the first updates can imitate (the paper has neither); in
a log of single items, β is the logged propensity where there is one (the paper's log has none). It is estimated as a
single-draw probability where the log has propensities of slates, because those are factors of another procedure.

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.methods.reinforce.log_checks import behaviour_note, check_baseline, check_rewards
from slatewise.methods.reinforce.settings import BehaviourConfig, ImitationConfig, NegativesConfig
from slatewise.nn.allocator import keep_freed_memory
from slatewise.nn.behaviour import Behaviour, BehaviourByPolicy, BehaviourFrequency, BehaviourHead
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import RowWiseAdagrad, item_tables
from slatewise.nn.negatives import NegativeSampler
from slatewise.nn.softmax import SoftmaxHead
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops.importance import (
    divergence_weight,
    importance_weight,
    self_normalised,
    self_normalised_baseline,
    top_k_multiplier,
)
from slatewise.ops.negatives import Negatives
from slatewise.ops.returns import discounted_returns, threshold
from slatewise.ops.shown_rows import at_steps
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.schedules import Schedule, value_at
from slatewise.types import Phase, Trajectories

__all__ = [
    "DEFAULT_ENCODER",
    "BehaviourConfig",
    "Config",
    "ImitationConfig",
    "Learner",
    "NegativesConfig",
    "Policy",
]
DEFAULT_ENCODER = "gru"
HOUR = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the gradient and its correction."""

    correction: Literal["none", "standard", "top_k"] = "top_k"
    """none: R ∇log π as if the log were ours; standard: times π/β (eq. 3); top_k: times λ_K as well (eq. 8)."""
    slate_size: int = 16
    """K of the correction: how many items the policy will show at once."""
    weight_cap: float = math.exp(3)
    """c: upper limit of π/β. The paper lost .52 % of watch time at e⁵."""
    self_normalise: bool = False
    """NIS: divide the weights by their mean over all that the batch shows."""
    baseline: bool = False
    """Subtract the self-normalised mean return of all that the batch shows."""
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    """β̂."""
    kl_penalty: float = 0.0
    """Factor of KL(π‖β) in the loss (TRPO, sec. 4.4); in units of the return."""
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    gamma: float = 0.9
    """Discount per step of the session."""
    horizon_hours: float | None = None
    """Rewards later than this do not count; the paper: 4 to 10 hours."""
    reward_at_least: float | None = None
    """Reward is 1 where the log's reward is at least this, else 0; None takes it as logged."""
    temperature: float = 1.0
    """τ of the softmax."""
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
    lr: float | Schedule = 3e-3
    weight_decay: float = 0.0
    """Of all weights, but not of item tables that are learned by row."""
    clip_norm: float = 5.0
    """Upper limit of the gradient's norm; without item tables that are learned by row, whose steps do not grow with
    their gradient."""

    def __post_init__(self) -> None:
        if not self.weight_cap > 0:
            raise ValueError(f"weight_cap is {self.weight_cap}; expected a number above 0 (e³ = 20.1 in the paper)")
        if self.slate_size < 1:
            raise ValueError(f"slate_size is {self.slate_size}; expected at least 1")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if self.kl_penalty < 0:
            raise ValueError(f"kl_penalty is {self.kl_penalty}; expected 0 or more")
        if self.correction == "none" and (self.baseline or self.kl_penalty or self.self_normalise):
            raise ValueError(
                "baseline, kl_penalty and self_normalise need importance weights: choose correction standard or top_k"
            )
        if self.horizon_hours is not None and not self.horizon_hours > 0:
            raise ValueError(f"horizon_hours is {self.horizon_hours}; expected a number above 0")


class Policy(RankedPolicy):
    """π(a|s) = softmax(sᵀv_a / τ + b_a), and beside it β̂ on the same state."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        if config.correction == "top_k" and config.slate_size > catalog.num_items:
            raise ValueError(f"slate_size is {config.slate_size}, the catalog has {catalog.num_items} items")
        if catalog.num_items == 1:
            raise ValueError("the catalog has one item: there is nothing to choose, so nothing to learn")
        super().__init__(encoder, catalog.num_rows)
        self.head = SoftmaxHead(
            encoder.width,
            catalog.num_rows,
            temperature=config.temperature,
            content=catalog.content,
            generator=generator,
        )
        self.behaviour_encoder = copy.deepcopy(encoder) if config.behaviour.model == "separate" else None
        self.behaviour: Behaviour
        if config.behaviour.model == "frequency":
            self.behaviour = BehaviourFrequency(catalog.num_rows)
        elif config.behaviour.model == "by_policy":
            self.behaviour = BehaviourByPolicy(
                encoder.width, catalog.num_rows, config.behaviour.logging_policies, generator=generator
            )
        else:
            self.behaviour = BehaviourHead(
                encoder.width, catalog.num_rows, stop_gradient=config.behaviour.model == "shared", generator=generator
            )

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Logits of π."""
        return self.head.scores(state, items)

    def vectors(self) -> Float[Tensor, "N E"]:
        """v_a of every real item."""
        return self.head.vectors()

    def item_bias(self) -> Float[Tensor, " N"]:
        """b_a of every real item."""
        return self.head.item_bias()

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The state over τ."""
        return self.head.query(state)

    def behaviour_states(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """The states that β̂ reads."""
        encoder = self.encoder if self.behaviour_encoder is None else self.behaviour_encoder
        return encoder(trajectories)

    def log_behaviour(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row of the catalog, for states of `behaviour_states` and numbers of logging policies."""
        return self.behaviour.log_betas(state, logged_by)


class Learner:
    """Adam on the corrected policy gradient and, at the same time, on β̂'s likelihood.

    Over a large catalog both softmaxes are sampled, with the same negatives, and the item tables get row-wise Adagrad.
    """

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        num_negatives = config.negatives.count
        if num_negatives is None:
            num_negatives = 0 if catalog.num_items <= 50_000 else 2048
        self.sampler = (
            NegativeSampler(config.negatives.sampler, num_negatives, catalog.num_rows) if num_negatives else None
        )
        if self.sampler is not None:
            keep_freed_memory()
        tables = item_tables(self.policy) if self.sampler is not None else {}
        self.tables = RowWiseAdagrad(tables, learning_rate=config.negatives.table_lr, frozen=FIRST_ITEM)
        self.parameters: list[nn.Parameter] = [weight for weight in self.policy.parameters() if weight.requires_grad]
        # a group may be empty, a list of weights may not: all there is to learn can lie in the tables
        self.optimiser = torch.optim.Adam(
            [{"params": self.parameters}], lr=value_at(config.lr, 0), weight_decay=config.weight_decay, fused=True
        )
        self.generator = generator
        self.updates = 0
        self._note: str | None = None
        self.imitation_updates: int | None = None if config.imitation.epochs else 0
        """First updates that imitate; None until `plan` says how many an epoch has."""
        let_dropout_draw(self.policy, generator)

    def prepare(self, part: LogPart) -> None:
        """Start π from how often items were used in the training part, β̂ from how often they were shown, if so set."""
        if self.config.imitation.start == "even":
            return
        num_rows = self.policy.num_rows
        self.policy.head.start_from_counts(torch.from_numpy(part.counts(num_rows)))
        shown = torch.bincount(torch.from_numpy(part.interactions.item[part.rows()]), minlength=num_rows)
        for head in self.policy.modules():
            if isinstance(head, SoftmaxHead) and head is not self.policy.head:
                head.start_from_counts(shown)

    def plan(self, *, updates_per_epoch: int, epochs: int) -> None:
        """Turn the epochs of imitation into updates.

        Raises:
            ValueError: imitation takes all of training.
        """
        imitation = self.config.imitation.epochs
        self.imitation_updates = round(imitation * updates_per_epoch)
        if self.imitation_updates and self.imitation_updates >= epochs * updates_per_epoch:
            raise ValueError(
                f"method.imitation.epochs is {imitation:g} and [train] epochs {epochs}: no update is left to learn "
                'from rewards. Imitate for less, train for longer, or choose the method "cloning", which only imitates'
            )

    @property
    def phase(self) -> Phase:
        """Imitation of the log, or the policy gradient."""
        imitates = self.updates < (self.imitation_updates or 0)
        return Phase(name="imitation" if imitates else "policy gradient", last=not imitates)

    def check_log(self, part: LogPart) -> None:
        """Refuse a log that nothing can be learned from, before any time is spent on it.

        Raises:
            ValueError: no reward counts, all that is shown earns the same while a baseline subtracts it, or the log
                names more policies than there are heads of β̂.
        """
        config = self.config
        check_rewards(part, config.reward_at_least)
        if config.baseline:
            check_baseline(part, config.reward_at_least)
        self._note = None if config.correction == "none" else behaviour_note(part, config.behaviour.propensities)
        num_policies = part.interactions.num_policies
        heads = config.behaviour.logging_policies
        if config.behaviour.model == "by_policy" and num_policies > heads:
            raise ValueError(
                f"the log names {num_policies - 1} policies, logging_policies is {heads}; expected "
                f"{num_policies}: one each, and one for what has no name"
            )

    def notes(self) -> tuple[str, ...]:
        """What β was."""
        return () if self._note is None else (self._note,)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; loss is the surrogate −Σ ω λ R log π per shown item, behaviour_loss −mean log β̂."""
        config = self.config
        highest = int(trajectories.slate.max()) if trajectories.slate.numel() else 0
        if highest >= self.policy.num_rows:
            raise InputError(
                f"a slate shows item number {highest}, the catalog ends at {self.policy.num_rows - 1}. "
                "Number the items of the log by the policy's own catalog."
            )
        shown = trajectories.learn.unsqueeze(2) & (trajectories.slate >= FIRST_ITEM)
        steps = shown.any(dim=2)
        if not bool(steps.any()):
            return {"loss": 0.0, "behaviour_loss": 0.0, "weight": 0.0, "capped": 0.0}
        self.policy.train()
        self.tables.forget()
        shown = shown[steps]
        state = at_steps(self.policy.encoder(trajectories), steps)
        slate = trajectories.slate[steps].clamp(min=FIRST_ITEM)
        negatives = self.sampler.draw(slate[shown], self.generator) if self.sampler is not None else None

        # β learns from all that was shown
        behaviour, own_encoder = self.policy.behaviour, self.policy.behaviour_encoder
        if isinstance(behaviour, BehaviourFrequency):
            behaviour.count(slate[shown])
        behaviour_state = state if own_encoder is None else at_steps(own_encoder(trajectories), steps)
        estimated = behaviour.log_beta(behaviour_state, slate, trajectories.policy_id[steps], negatives)
        behaviour_loss = -estimated[shown].mean()
        log_beta = self._log_beta(trajectories, steps, estimated.detach())

        if self.imitation_updates is None:
            raise ValueError("imitation is measured in epochs: call plan(updates_per_epoch=…, epochs=…) before update")
        imitates = not self.phase.last
        if imitates:
            log_pi = self.policy.head.log_prob(state.index_select(0, shown.nonzero()[:, 0]), slate[shown], negatives)
            loss, weight, ratio = -log_pi.mean(), torch.ones_like(log_pi), torch.zeros_like(log_pi)
        else:
            loss, weight, ratio = self._surrogate(
                trajectories, steps=steps, state=state, slate=slate, shown=shown, log_beta=log_beta, negatives=negatives
            )
        lr = config.imitation.lr if imitates and config.imitation.lr is not None else config.lr
        for group in self.optimiser.param_groups:
            group["lr"] = value_at(lr, self.updates)
        self.updates += 1
        descend(loss + behaviour_loss, self.parameters, self.optimiser, config.clip_norm)
        self.tables.step()
        self.policy.eval()
        capped = (ratio >= config.weight_cap).float().mean() if len(ratio) else torch.zeros(())
        return {
            "loss": float(loss.detach()),
            "behaviour_loss": float(behaviour_loss.detach()),
            "weight": float(weight.mean()) if len(weight) else 0.0,
            "capped": float(capped),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, moments, accumulators, the sampler and the generator."""
        flat = flat_state(self.policy, self.optimiser, self.generator)
        flat["updates"] = torch.tensor(self.updates)
        flat |= {f"rows.{name}": value for name, value in self.tables.state_dict().items()}
        if self.sampler is not None:
            flat |= {f"sampler.{name}": value for name, value in self.sampler.state_dict().items()}
        return flat

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        self.updates = int(state["updates"])
        self.tables.load_state_dict(under("rows.", state))
        if self.sampler is not None:
            self.sampler.load_state_dict(under("sampler.", state))

    def _surrogate(
        self,
        trajectories: Trajectories,
        *,
        steps: Bool[Tensor, "B T"],
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        shown: Bool[Tensor, "P K"],
        log_beta: Float[Tensor, "P K"],
        negatives: Negatives | None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " M"], Float[Tensor, " M"]]:
        """The surrogate −Σ ω λ R log π per shown item (eq. 8), and ω and the uncapped ratio of each item in it."""
        config = self.config
        # π learns from what was rewarded; its return counts everything that followed
        reward = threshold(trajectories.reward, config.reward_at_least) * trajectories.mask.unsqueeze(2)
        returns = discounted_returns(
            reward.sum(dim=2),
            config.gamma,
            ends=trajectories.terminated | trajectories.truncated,
            time=trajectories.time,
            horizon=None if config.horizon_hours is None else round(config.horizon_hours * HOUR),
        )
        item_reward = reward[steps]
        # the step's return without what the other items of its slate earned
        gain = (returns - reward.sum(dim=2))[steps].unsqueeze(1) + item_reward
        earned = shown & (item_reward != 0)
        if config.kl_penalty or config.baseline or config.self_normalise:
            # the penalty, the baseline and the mean weight are means over what β drew, so they need every shown item
            learned = shown
            log_pi = self.policy.head.log_prob_slate(state, slate, negatives)[learned]
        else:
            learned = earned
            log_pi = self.policy.head.log_prob(
                state.index_select(0, learned.nonzero()[:, 0]), slate[learned], negatives
            )
        weight, multiplier, ratio = self._weight(log_pi.detach(), log_beta[learned].detach())
        gain = (gain * earned)[learned] * multiplier
        if config.baseline:
            gain = gain - self_normalised_baseline(weight, gain)
        push = weight * gain
        if config.kl_penalty:
            toward = divergence_weight(log_pi.detach(), log_beta[learned].detach(), cap=config.weight_cap)
            push = push - config.kl_penalty * toward
        return -(push * log_pi).sum() / int(shown.sum()), weight, ratio

    def _log_beta(
        self, trajectories: Trajectories, steps: Bool[Tensor, "B T"], estimated: Float[Tensor, "P K"]
    ) -> Float[Tensor, "P K"]:
        """Log β: of single items as logged where it is, else as estimated."""
        if self.config.behaviour.propensities == "estimated" or trajectories.slate.shape[2] > 1:
            return estimated
        return torch.where(trajectories.logp_known[steps].unsqueeze(1), trajectories.logp[steps], estimated)

    def _weight(
        self, log_pi: Float[Tensor, " P"], log_beta: Float[Tensor, " P"]
    ) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, " P"]]:
        """ω and λ_K of each item, and its uncapped ratio."""
        config = self.config
        ones = torch.ones_like(log_pi)
        if config.correction == "none":
            return ones, ones, torch.zeros_like(log_pi)
        weight = importance_weight(log_pi, log_beta, cap=config.weight_cap)
        if config.self_normalise:
            weight = self_normalised(weight)
        multiplier = top_k_multiplier(log_pi, config.slate_size) if config.correction == "top_k" else ones
        return weight, multiplier, torch.exp(log_pi - log_beta)
