"""Fits a user model to a log; `slatewise train` finds it by its dotted name, slatewise.sim.log_fitted.learner.

As a policy a user model shows what would be picked. Losses are the mean negative log-likelihoods of what users did:
which item they picked, what it was worth, how their context moved, where their sessions ended (see model.py).

The model picks at most one item of a slate. Where the log has several uses of a slate, the one with the largest reward
is the pick (`several_uses`).
Unknown users: the slate of the state without history; in the default encoder that is what is observed of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, pad

from slatewise.data import batches
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.nn.choice import Reads
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.state_dict import flat_state, restore_state
from slatewise.ops.choices import at_choice, check_several_uses, several_uses_note
from slatewise.ops.sessions import fit_wear, sum_since_reset
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import ReadsContext, StateEncoder
from slatewise.sim.log_fitted.model import Shape, UserModel, level_counts
from slatewise.sim.log_fitted.verdict import examine, has_slates
from slatewise.types import Trajectories

DEFAULT_ENCODER = "observed"
STARTS = 2048
SECOND = 1e6
SEVERAL_USES = "method.several_uses"


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Steps of the optimiser."""

    end_lr: float = 1e-1
    """Of the slope and threshold of the session's end, two numbers that may go far."""
    clip_norm: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the networks; what is None is filled in from the training part of the log.

    Raises:
        ValueError: a size below 1.
    """

    reads: Reads = "whole"
    """What the networks about an item read of the state (see heads.choice.ItemReader); "match" where the context begins
    with the user's tastes for the features of the items."""
    item_width: int = 16
    """E, where the catalog has no features."""
    hidden: tuple[int, ...] = (64,)
    modes: int = 2
    """Parts of the mixture that a move of the context is drawn from."""
    negatives: int = 100
    """Items drawn at random that a pick is set against, where the log has no slates."""
    most_levels: int = 32
    """Most values of the reward that are kept apart; a log with more is cut at its quantiles."""
    several_uses: Literal["refuse", "largest"] = "largest"
    """A slate of which several items were used: refuse the log, or the pick is the item with the largest reward."""
    lr: float = 3e-3
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    slate_size: int | None = None
    slates: bool | None = None
    levels: tuple[float, ...] | None = None
    session_steps: float | None = None
    ends: bool | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("item_width", "modes", "negatives", "most_levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")

    def resolve(self, part: LogPart) -> Config:
        """The settings with what the training part of a log says.

        Raises:
            InputError: a log that cannot support a simulator; the message is the verdict.
        """
        verdict = examine(part)
        if verdict.support == "cannot":
            raise InputError(f"{verdict.text()}\nBring a longer log, or one of impressions.")
        log, events = part.interactions, part.events()
        ends = int(np.asarray(log.session_end)[events].sum())
        context = np.asarray(log.context)[events]
        stays = ends or len(part.users())
        from_log = {
            "slate_size": log.slate_size,
            "slates": has_slates(part),
            "levels": levels(part.rewards(), self.most_levels),
            "session_steps": len(events) / max(stays, 1),
            "ends": ends > 0,
            "low": tuple(map(float, context.min(axis=0))) if len(context) else (),
            "high": tuple(map(float, context.max(axis=0))) if len(context) else (),
        }
        open_ = {name: value for name, value in from_log.items() if getattr(self, name) is None}
        resolved: Config = replace(self, **open_)  # type: ignore[arg-type]  # each has the type of its field
        return resolved

    def shape(self, context_width: int) -> Shape:
        """What the model must know.

        Raises:
            ValueError: settings that were not resolved.
        """
        names = ("slate_size", "slates", "levels", "session_steps", "ends", "low", "high")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        missing = [name for name in names if values[name] is None]
        if missing:
            raise ValueError(f"{missing[0]} is not known; fill the settings from a log (Config.resolve)")
        if not context_width:
            values |= {"low": (), "high": ()}
        if len(values["low"]) != context_width or len(values["high"]) != context_width:
            raise ValueError(f"the state reads {context_width} columns of context, the log has {len(values['low'])}")
        return Shape(**values)


def levels(reward: Float[np.ndarray, " P"], most: int) -> tuple[float, ...]:
    """Values that rewards take, ascending; the means of equally many rewards where there are more than `most`."""
    values = np.unique(reward)
    if len(values) > most:
        values = np.unique([part.mean() for part in np.array_split(np.sort(reward), most)])
    return tuple(map(float, values))


class Policy(RankedPolicy):
    """A user model, and what the log says beside it. Scores are log v: it shows what would be picked."""

    starts: Tensor
    num_starts: Tensor
    shown: Tensor
    chosen: Tensor
    places: Tensor
    worth: Tensor
    gap: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        super().__init__(encoder, catalog.num_rows)
        self.config = config
        self.context_width = encoder.context_width if isinstance(encoder, ReadsContext) else 0
        shape = config.shape(self.context_width)
        self.user = UserModel(
            shape,
            encoder.width,
            catalog,
            reads=config.reads,
            item_width=config.item_width,
            hidden=config.hidden,
            modes=config.modes,
            generator=generator,
        )
        counts = {
            "starts": torch.zeros(STARTS, self.context_width),
            "num_starts": torch.zeros((), dtype=torch.int64),
            "shown": torch.zeros(catalog.num_rows),
            "chosen": torch.zeros(catalog.num_rows),
            "places": torch.zeros(shape.slate_size + 1),
            "worth": torch.zeros(len(shape.levels)),
            "gap": torch.zeros(2),
            "sums": torch.zeros_like(self.user.wear),
            "squares": torch.zeros(len(self.user.wear), len(self.user.wear), dtype=torch.float64),
        }
        for name, value in counts.items():
            self.register_buffer(name, value)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Scores log v(s, i)."""
        if items is None:
            items = torch.arange(self.num_rows).expand(len(state), -1)
        return self.user.choice.log_weight(state, items)

    def log_likelihoods(
        self, trajectories: Trajectories, *, generator: Generator, whole: bool = False
    ) -> dict[str, Float[Tensor, " _"]]:
        """Log-likelihood of each thing that users did at the steps that teach; one entry per thing.

        Args:
            trajectories: of the log.
            generator: draws the items that picks are set against where the log has no slates.
            whole: True where every row begins with the first event of its user.
        """
        states = self.encoder(trajectories)
        rows = (trajectories.learn & (trajectories.slate >= FIRST_ITEM).any(dim=2)).nonzero()
        user, t = rows[:, 0], rows[:, 1]
        state, slate, choice = states[user, t], trajectories.slate[user, t], trajectories.choice[user, t]
        item = at_choice(slate, choice)
        likelihoods = {"choice": self._choice(state, slate, choice, item, generator)}
        did = item >= FIRST_ITEM
        reward = at_choice(trajectories.reward[user, t], choice)[did]
        logits = self.user.reward_logits(state[did], item[did].unsqueeze(1)).squeeze(1)
        likelihoods["reward"] = log_softmax(logits, dim=1).gather(1, self.user.level(reward).unsqueeze(1)).squeeze(1)
        if self.user.shape.ends:
            likelihoods["end"] = self._end(trajectories, whole=whole)
        if self.context_width:
            likelihoods["context"] = self._context(trajectories)
        return likelihoods

    def observe(self, trajectories: Trajectories) -> None:
        """Count what the steps that teach show: where sessions start, what is shown and taken, the time between."""
        learn = trajectories.learn
        slate, choice = trajectories.slate[learn], trajectories.choice[learn]
        item = at_choice(slate, choice)
        self.shown += torch.bincount(slate.flatten(), minlength=self.num_rows)
        self.chosen += torch.bincount(item[choice >= 0], minlength=self.num_rows)
        self.places += torch.bincount(torch.where(choice < 0, len(self.places) - 1, choice), minlength=len(self.places))
        level = self.user.level(at_choice(trajectories.reward[learn], choice))
        self.worth += level_counts(level, choice >= 0, len(self.worth))
        follows = trajectories.mask[:, 1:] & trajectories.learn[:, :-1] & ~trajectories.terminated[:, :-1]
        gaps = torch.diff(trajectories.time, dim=1)[follows] / SECOND
        self.gap += torch.stack([gaps.sum(), torch.tensor(float(len(gaps)))])
        if self.user.shape.ends:
            self._wear_out(trajectories)
        if self.context_width:
            context = trajectories.context[:, :-1][begins(trajectories)]
            at = (self.num_starts + torch.arange(len(context))) % STARTS
            self.starts[at] = context
            self.num_starts += len(context)

    def _wear_out(self, trajectories: Trajectories) -> None:
        """Add complete sessions to the sums that the wear follows from.

        The limit was passed somewhere within the last step, on average in its middle.
        """
        traits = self.user.traits[at_choice(trajectories.slate, trajectories.choice)] * trajectories.mask.unsqueeze(2)
        spent = sum_since_reset(traits, trajectories.terminated) - traits / 2
        started = begins(trajectories).long().cumsum(dim=1) > 0
        whole = spent[trajectories.learn & started & trajectories.terminated]
        self.sums += whole.sum(dim=0)
        self.squares += whole.T @ whole
        self.user.wear.copy_(fit_wear(self.squares, self.sums, self.user.prior))

    def _choice(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        choice: Int[Tensor, " P"],
        item: Int[Tensor, " P"],
        generator: Generator,
    ) -> Float[Tensor, " _"]:
        if self.user.shape.slates:
            # nothing comes first, with the logit 0
            logits = pad(self.user.choice_logits(state, slate), (1, 0))
            return log_softmax(logits, dim=1).gather(1, (choice + 1).unsqueeze(1)).squeeze(1)
        did = item >= FIRST_ITEM
        shape = (int(did.sum()), self.config.negatives)
        others = torch.randint(FIRST_ITEM, self.num_rows, shape, generator=generator)
        chosen = item[did].unsqueeze(1)
        logits = self.user.choice.log_weight(state[did], torch.cat([chosen, others], dim=1))
        logits = logits.masked_fill(pad(others == chosen, (1, 0)), -torch.inf)
        return log_softmax(logits, dim=1)[:, 0]

    def _end(self, trajectories: Trajectories, *, whole: bool) -> Float[Tensor, " _"]:
        item = at_choice(trajectories.slate, trajectories.choice)
        wear = self.user.wear_of(item) * trajectories.mask
        logit = self.user.end_logit(sum_since_reset(wear, trajectories.terminated))
        # a window that begins in the middle of a session does not know its wear before the next one begins
        started = begins(trajectories).long().cumsum(dim=1) > 0
        rows = trajectories.learn & (started | whole) & ~trajectories.truncated
        return -binary_cross_entropy_with_logits(
            logit[rows], trajectories.terminated[rows].to(logit.dtype), reduction="none"
        )

    def _context(self, trajectories: Trajectories) -> Float[Tensor, " _"]:
        follows = pad(trajectories.mask[:, 1:], (0, 1)) & trajectories.learn & ~trajectories.terminated
        user, t = follows.nonzero().unbind(dim=1)
        item = at_choice(trajectories.slate[user, t], trajectories.choice[user, t])
        return self.user.move_log_density(trajectories.context[user, t], trajectories.context[user, t + 1], item)


class Learner:
    """One step on the mean negative log-likelihoods, added up."""

    single_pass = False
    metric_names = ("log_likelihood", "choice", "reward", "end", "context")
    """Of held-out events: the sum of the others, each the mean log-likelihood of one thing that users do."""

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        model = self.policy.user
        ends: list[nn.Parameter] = [model.slope, model.threshold]
        apart = {id(parameter) for parameter in ends}
        self.parameters: list[nn.Parameter] = list(self.policy.parameters())
        rest = [parameter for parameter in self.parameters if id(parameter) not in apart]
        groups = [{"params": rest, "lr": config.lr}, {"params": ends, "lr": config.optimiser.end_lr}]
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(groups)
        self.generator = generator
        self.num_several_uses = 0
        let_dropout_draw(encoder, generator)

    def check_log(self, part: LogPart) -> None:
        """Count slates of which several items were used.

        Raises:
            ValueError: there are some, and `several_uses` refuses them.
        """
        self.num_several_uses = part.num_several_uses()
        check_several_uses(self.num_several_uses, self.config.several_uses, setting=SEVERAL_USES)

    def notes(self) -> tuple[str, ...]:
        """What was made of slates of which several items were used."""
        return several_uses_note(self.num_several_uses, self.config.several_uses, setting=SEVERAL_USES)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; each figure is a mean negative log-likelihood, loss is their sum.

        Raises:
            FloatingPointError: a loss that is not finite.
        """
        if not bool(trajectories.learn.any()):
            return {"loss": 0.0}
        self.policy.train()
        self.policy.observe(trajectories)
        likelihoods = self.policy.log_likelihoods(trajectories, generator=self.generator)
        losses = {name: -values.mean() for name, values in likelihoods.items() if len(values)}
        loss = torch.stack(list(losses.values())).sum()
        descend(loss, self.parameters, self.optimiser, self.config.optimiser.clip_norm)
        self.policy.eval()
        return {"loss": float(loss.detach())} | {
            f"{name}_loss": float(value.detach()) for name, value in losses.items()
        }

    @torch.no_grad()
    def evaluate(self, part: LogPart) -> dict[str, float]:
        """Log-likelihoods of the events of a part, by `metric_names`; NaN where the part has none of a thing.

        The states read the events before it. The sum is over what the part has.
        """
        self.policy.eval()
        generator = Generator().manual_seed(0)
        total, *each = self.metric_names
        sums: dict[str, float] = dict.fromkeys(each, 0.0)
        counts: dict[str, int] = dict.fromkeys(each, 0)
        for batch in held_out_histories(part):
            for name, values in self.policy.log_likelihoods(batch, generator=generator, whole=True).items():
                sums[name] += float(values.sum())
                counts[name] += len(values)
        means = {name: sums[name] / counts[name] if counts[name] else math.nan for name in sums}
        present = [mean for mean in means.values() if not math.isnan(mean)]
        return {total: sum(present) if present else math.nan} | means

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, counts, moments and the generator."""
        return flat_state(self.policy, self.optimiser, self.generator)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)


def held_out_histories(part: LogPart, *, size: int = 64) -> list[Trajectories]:
    """The events of a part with the whole histories before them, `size` users a batch."""
    windows = part.histories(part.users())
    return [batches.trajectories(part.interactions, windows[at : at + size]) for at in range(0, len(windows), size)]


def begins(trajectories: Trajectories) -> Bool[Tensor, "B T"]:
    """True where a session begins for certain: after an end, and at the start of a history that is not cut.

    A window that was cut begins with steps that teach nothing; a history does not, or nothing of it teaches.
    """
    first = trajectories.learn[:, :1]
    return torch.cat([first, trajectories.terminated[:, :-1]], dim=1) & trajectories.mask


__all__ = [
    "DEFAULT_ENCODER",
    "Config",
    "Learner",
    "OptimiserConfig",
    "Policy",
    "held_out_histories",
    "levels",
]
