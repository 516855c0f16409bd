"""Sessions with people whose ratings are known: every recommended item is answered by its rating.

Chen et al., "Large-scale Interactive Recommendation with Tree-structured Policy Gradient", AAAI 2019 (arXiv
1811.05869), sec. 5.1. With the rating put on [−1, 1] and 0 where there is none,

    r_t = rating(u, a_t) + α (c_p − c_n)

c_p, c_n: how many positive (negative) steps stand in a row right before this one; a step that is neither ends both
rows. A session has T steps and shows no item twice. The people are parted: policies learn from some, and are judged
with the others.

Unrated items: "zero" is the paper's form. "completed" answers them by matrix factorisation, so that what a person never
rated can be recommended as well; a rating that is known always stands.

What is seen before each step are the nine counts of the authors' code, over T (all negative, positive and other steps,
steps, and the rows of negative, positive, other, not negative and not positive ones), and the last answer in ten bins.

Slates of K items are answered item by item, and every answered item is used: the step is positive where the answers sum
to more than 0. Popular items
cost 1 each, so the mean of the costs is the share of popular items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.data import prepared
from slatewise.data.ratings import Ratings, ratings
from slatewise.errors import input_error
from slatewise.item_vectors.ratings import Factors, factorise
from slatewise.log import FIRST_ITEM, PAD, Catalog, LogPart
from slatewise.seeds import stream_seed
from slatewise.sim._slates import check_slates
from slatewise.sim.toys import catalog as numbered_items
from slatewise.types import Observation, Slates, Step, used_at_once

Part = Literal["train", "valid", "test", "all"]
STATISTICS = 9
BINS = 10
MINUTE = 60_000_000
START = 1_600_000_000_000_000
MOST_CANDIDATES = 50_000_000
"""Users × items that may be listed as candidates."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whose ratings, and how they are answered.

    Raises:
        ValueError: a count below 1, or a share outside [0, 1).
    """

    data: str | None = None
    """Folder of a prepared rating log; None = 60 people of two tastes who rated half of 40 items, made up."""
    part: Part = "train"
    in_turn: bool = False
    """Each place plays its own person first, and then the one num_users further on, so that num_people places judge
    everybody once; else people are drawn at random."""
    valid_share: float = 0.0
    """Share of the people who validate; they are taken from those who train."""
    test_share: float = 0.2
    split_seed: int = 0
    unrated: Literal["zero", "completed"] = "zero"
    completion_width: int = 16
    """Factors of the matrix factorisation."""
    alpha: float = 0.1
    """α: what each step of a row adds to, or takes from, the next reward."""
    steps: int = 32
    """T."""
    slate_size: int = 1
    relevant: float = 3.5
    """A rating of at least this much counts in precision and recall."""
    popular_share: float = 0.2
    """Share of the items, those with the most ratings by the people who train, that cost 1 when shown."""
    list_candidates: bool = False
    """Say with every observation which items were not shown yet; for loops that pass no exclusions. Small catalogs."""

    def __post_init__(self) -> None:
        for name in ("steps", "slate_size", "completion_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("valid_share", "test_share", "popular_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share in [0, 1)")
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nobody to train with")


@dataclass(frozen=True, kw_only=True)
class World:
    """What several environments over the same log share: reading it and completing it takes its time."""

    ratings: Ratings
    """Everybody's."""
    catalog: Catalog
    parts: dict[Part, Int[Tensor, "V"]]
    """People with ratings, by part."""
    completion: Factors | None
    popular: Bool[Tensor, "rows"]


class Env:
    """B people at a time; each session is another person's, and another user to the policy.

    An item shown again in the same session is answered as if it were unrated ("zero"), whatever its rating.
    """

    def __init__(self, config: Config, *, num_users: int, world: World | None = None) -> None:
        """Open the world of a config.

        Raises:
            InputError: no data there, or a session that needs more items than there are.
        """
        if num_users < 1:
            raise ValueError(f"num_users is {num_users}; expected at least 1")
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.world = world or open_world(config)
        self.catalog = self.world.catalog
        self.people = self.world.parts[config.part]
        needed = config.steps * config.slate_size
        if needed > self.catalog.num_items:
            raise input_error(
                f"a session of {config.steps} slates of {config.slate_size} shows {needed} items, the catalog has "
                f"{self.catalog.num_items}",
                advice="Fewer steps or smaller slates.",
            )
        if config.list_candidates and num_users * self.catalog.num_rows > MOST_CANDIDATES:
            raise input_error(
                f"{num_users} users × {self.catalog.num_items:,} items are too many to list as candidates",
                advice="Leave list_candidates off and exclude env.shown_items.",
            )
        low, high = self.world.ratings.scale
        self._centre, self._half = (low + high) / 2, (high - low) / 2
        self._generator: Generator | None = None
        self._played = torch.zeros(num_users, dtype=torch.int64)

    @property
    def num_people(self) -> int:
        """People of this part."""
        return len(self.people)

    @property
    def person(self) -> Int[Tensor, "B"]:
        """Who sits at each place: the user's number in the log."""
        return self._person.clone()

    @property
    def shown_items(self) -> Int[Tensor, "B X"]:
        """Items of the session so far, 0-padded: what a policy must exclude."""
        return self._shown[:, : max(1, int(self._age.max()) * self.slate_size)].clone()

    def reset(self, *, seed: int) -> Observation:
        """New people everywhere, and no session played."""
        self._generator = Generator().manual_seed(stream_seed(seed, 0))
        self._events = 0
        self._played = torch.zeros(self.num_users, dtype=torch.int64)
        self._person = torch.zeros(self.num_users, dtype=torch.int64)
        self._shown = torch.zeros(self.num_users, self.config.steps * self.slate_size, dtype=torch.int64)
        self._age = torch.zeros(self.num_users, dtype=torch.int64)
        self._counts = torch.zeros(self.num_users, STATISTICS)
        self._answer = torch.zeros(self.num_users, BINS)
        self._renew(torch.ones(self.num_users, dtype=torch.bool))
        return self._observe()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Answer the slates."""
        config = self.config
        if self._generator is None:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
        check_slates(
            slates,
            num_users=self.num_users,
            slate_size=self.slate_size,
            num_rows=self.catalog.num_rows,
            candidates=self._candidates(),
        )
        slate, filled = slates.items, slates.items != PAD
        answer = self.answers(slate)
        positive_row, negative_row = self._counts[:, 5], self._counts[:, 4]
        bonus = config.alpha * (positive_row - negative_row)
        shared = bonus.unsqueeze(1) * filled / filled.sum(dim=1, keepdim=True).clamp(min=1)
        reward, time = answer + shared, START + MINUTE * (self._played * config.steps + self._age)
        user = self._user()
        ends = self._age + 1 >= config.steps
        step = Step(
            event_id=torch.arange(self.num_users) + self._events,
            policy_id=torch.zeros(self.num_users, dtype=torch.int64),
            user=user,
            time=time,
            terminated=ends,
            truncated=torch.zeros(self.num_users, dtype=torch.bool),
            slate=slate.clone(),
            logp=slates.logp.clone(),
            logp_known=torch.ones(self.num_users, dtype=torch.bool),
            reward=reward,
            cost=self.world.popular[slate].float(),
            **used_at_once(filled, time=time, reward=reward),
        )
        self._count(answer.sum(dim=1))
        self._shown.scatter_(1, (self._age * self.slate_size).unsqueeze(1) + torch.arange(self.slate_size), slate)
        self._age = self._age + 1
        self._events += self.num_users
        if bool(ends.any()):
            self._played = self._played + ends.long()
            self._renew(ends)
        return step, self._observe()

    def answers(self, items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """What the people at the places say to some items now, on [−1, 1]; 0 for padding and what was shown before."""
        value, rated = self.world.ratings.of(self._person, items)
        answered = rated
        if self.world.completion is not None and self.config.unrated == "completed":
            value = torch.where(rated, value, self.world.completion.of(self._person, items))
            answered = torch.ones_like(rated)
        shown = torch.sort(self._shown, dim=1).values
        at = torch.searchsorted(shown, items.contiguous()).clamp(max=shown.shape[1] - 1)
        answered = answered & (items >= FIRST_ITEM) & (shown.gather(1, at) != items)
        return ((value - self._centre) / self._half).masked_fill(~answered, 0.0)

    def relevant(self, items: Int[Tensor, "B A"]) -> tuple[Bool[Tensor, "B A"], Int[Tensor, "B"]]:
        """Which items the people at the places rated high enough, and how many such items each of them has.

        Ratings of the log count, never completed ones.
        """
        value, rated = self.world.ratings.of(self._person, items)
        high = (self.world.ratings.value >= self.config.relevant).long()
        total = torch.nn.functional.pad(high.cumsum(0), (1, 0))
        ends = total[self.world.ratings.offsets]
        return rated & (value >= self.config.relevant), ends[self._person + 1] - ends[self._person]

    def _count(self, answer: Float[Tensor, "B"]) -> None:
        """One more step in the nine counts, and the answer's bin."""
        negative, positive = answer < 0, answer > 0
        other = ~negative & ~positive
        all_ = self._counts[:, :4] + torch.stack([negative, positive, other, torch.ones_like(other)], dim=1)
        goes_on = torch.stack([negative, positive, other, ~negative, ~positive], dim=1)
        rows = (self._counts[:, 4:] + 1) * goes_on
        self._counts = torch.cat([all_, rows], dim=1)
        at = ((answer / self.slate_size + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
        self._answer = torch.nn.functional.one_hot(at, BINS).float()

    def _renew(self, ended: Bool[Tensor, "B"]) -> None:
        """Another person where `who` is True; drawn for everybody, so that a draw does not depend on `who`."""
        if self.config.in_turn:
            place = (torch.arange(self.num_users) + self._played * self.num_users) % self.num_people
        else:
            place = torch.randint(self.num_people, (self.num_users,), generator=self._generator)
        column = ended.unsqueeze(1)
        self._person = torch.where(ended, self.people[place], self._person)
        self._age = self._age.masked_fill(ended, 0)
        self._shown = self._shown.masked_fill(column, PAD)
        self._counts = self._counts.masked_fill(column, 0.0)
        self._answer = self._answer.masked_fill(column, 0.0)

    def _user(self) -> Int[Tensor, "B"]:
        return torch.arange(self.num_users) + self._played * self.num_users

    def _candidates(self) -> Int[Tensor, "B C"] | None:
        if not self.config.list_candidates:
            return None
        items = torch.arange(self.catalog.num_rows).repeat(self.num_users, 1).scatter_(1, self._shown, PAD)
        return items[:, FIRST_ITEM:]

    def _observe(self) -> Observation:
        return Observation(
            user=self._user(),
            context=torch.cat([self._counts / self.config.steps, self._answer], dim=1),
            candidates=self._candidates(),
        )


def open_world(config: Config) -> World:
    """Read the log, part the people, complete the matrix where that is asked for.

    Raises:
        InputError: no data there, nobody with a rating in the part, or ratings that are all the same.
    """
    if config.data is None:
        log_ratings, catalog = made_up_ratings()
        where = "the made-up ratings"
    else:
        dataset = prepared.load(Path(config.data))
        log_ratings, catalog = (
            ratings(LogPart.whole(dataset.interactions), num_rows=dataset.catalog.num_rows),
            dataset.catalog,
        )
        where = config.data
    low, high = log_ratings.scale
    if not low < high:
        raise input_error(
            f"every rating is {low:g}; expected ratings that differ",
            file=where,
            advice="A log of clicks alone has no ratings: use an environment for clicks.",
        )
    parts = part_people(log_ratings, config)
    if not len(parts[config.part]):
        raise input_error(
            f'nobody with a rating is in the part "{config.part}"',
            file=where,
            advice="Choose another part, or larger shares.",
        )
    completion = None
    if config.unrated == "completed":
        generator = Generator().manual_seed(stream_seed(config.split_seed, 7))
        completion = factorise(log_ratings, width=config.completion_width, generator=generator)
    counts = log_ratings.users(parts["train"]).counts()
    number = int(config.popular_share * catalog.num_items)
    popular = torch.zeros(catalog.num_rows, dtype=torch.bool)
    popular[counts.argsort(descending=True, stable=True)[:number]] = True
    popular[:FIRST_ITEM] = False
    return World(ratings=log_ratings, catalog=catalog, parts=parts, completion=completion, popular=popular)


def part_people(log_ratings: Ratings, config: Config) -> dict[Part, Int[Tensor, "V"]]:
    """Numbers of the people with ratings, by part, in rising order."""
    people = (log_ratings.offsets.diff() > 0).nonzero().squeeze(1)
    order = people[torch.randperm(len(people), generator=Generator().manual_seed(stream_seed(config.split_seed, 3)))]
    tests = int(len(people) * config.test_share + 1e-9)
    valid = int(len(people) * config.valid_share + 1e-9)
    test, validation, train = order[:tests], order[tests : tests + valid], order[tests + valid :]
    parts: dict[Part, Tensor] = {"train": train, "valid": validation, "test": test, "all": people}
    return {name: torch.sort(members).values for name, members in parts.items()}


def made_up_ratings(*, people: int = 60, items: int = 40) -> tuple[Ratings, Catalog]:
    """Half of all ratings of people of two tastes: even people give 4 or 5 to even items and 1 or 2 to odd ones."""
    generator = Generator().manual_seed(0)
    user = torch.arange(people).unsqueeze(1).expand(-1, items)
    item = torch.arange(FIRST_ITEM, FIRST_ITEM + items).expand(people, -1)
    likes = (user % 2) == (item % 2)
    value = torch.where(likes, 4.0, 1.0) + torch.randint(2, likes.shape, generator=generator)
    is_rated = torch.rand(likes.shape, generator=generator) < 0.5
    offsets = torch.nn.functional.pad(is_rated.sum(dim=1).cumsum(0), (1, 0))
    rows = items + FIRST_ITEM
    return Ratings(offsets=offsets, item=item[is_rated], value=value[is_rated], num_rows=rows), numbered_items(items)
