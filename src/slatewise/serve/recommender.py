"""Carry → state → slate → event → outcome → carry. Knows no HTTP; for one thread.

What is recorded stands in the event log before it is acknowledged. What was served is recorded with its logp as it was
drawn and never computed again. The first outcome of an item that is worth more than 0 is its use and moves the user's
memory; later ones, and those worth nothing, are recorded.

Uses are read in the order in which they arrive, and every record says when that was: the log, read again, leads to the
same states (`ops.history`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Generator, nn

from slatewise.artifact import Artifact
from slatewise.config import ServeConfig
from slatewise.data.decisions_and_outcomes import Decision, LineError, LoggedExploration, Outcome
from slatewise.data.prepared import Dataset
from slatewise.data.set_aside import SetAside
from slatewise.log import PAD
from slatewise.protocols import ReadsContext
from slatewise.serve.clock import Clock, event_name
from slatewise.serve.events.files import SegmentedLog
from slatewise.serve.history import LoggedHistory
from slatewise.serve.http.schema import Feedback, FeedbackAnswer, Receipt, RecommendAnswer, RecommendRequest, Shown
from slatewise.serve.journal import REWARDS_EXPECTED, Journal
from slatewise.serve.masks import ServedItems, recorded_mask
from slatewise.serve.refused import RefusedError
from slatewise.serve.requests import Door
from slatewise.serve.stores.lmdb import Store
from slatewise.serve.users import Users
from slatewise.types import SlateRequest, Slates
from slatewise.user_file import UserTable


class Recommender:
    """One policy, its users, its log."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        log: SegmentedLog,
        store: Store,
        history: LoggedHistory | None = None,
        config: ServeConfig | None = None,
        generator: Generator,
        clock: Clock | None = None,
    ) -> None:
        """Take up where the log ends.

        Args:
            artifact: the policy and its catalog.
            log: where decisions and outcomes are recorded.
            store: its index; what the log has and the store has not is caught up here.
            history: where users of the training log start; None = everybody starts as a stranger.
            config: exploration and rules where a request does not say otherwise.
            generator: source of the draws.
            clock: rising microseconds.

        Raises:
            SlatewiseError: store or log cannot be used.
        """
        if isinstance(artifact.policy, nn.Module):
            artifact.policy.eval()
        self.artifact = artifact
        self.events_folder = log.folder
        self.decisions = 0
        """Slates served by this process."""
        self.outcomes = 0
        """Outcomes accepted by this process."""
        self.config = config or ServeConfig()
        encoder = artifact.policy.encoder
        user_table = user_table_of(artifact, None if history is None else history.dataset)
        if isinstance(encoder, ReadsContext):
            width = encoder.context_width - (0 if user_table is None else user_table.width)
        else:
            width = 0 if history is None else history.dataset.interactions.context.shape[1]
        self.users = Users(
            artifact.policy.encoder,
            artifact.catalog,
            policy_version=artifact.version,
            store=store,
            history=history,
            context_width=width,
            user_table=user_table,
        )
        self.served = ServedItems(artifact.catalog, log.folder)
        """The items, and which of them are masked."""
        self._door = Door(
            artifact.catalog, self.config, store, served=self.served, context_width=width, user_table=user_table
        )
        self._journal = Journal(log, store, self.users, reward=self._reward)
        self.store = store
        self._generator = generator
        self._clock = clock or Clock()
        self._take_up_log()

    def _take_up_log(self) -> None:
        """Bring the store up to date with the log, and name in it what is served from now on."""
        with torch.inference_mode():
            self._journal.follow()
        with self.store.transaction():
            self._clock.start_after(self.store.latest_time())
            in_force = self.store.catalog()
        self.served.put_mask(recorded_mask(in_force, self.events_folder))
        self._record_items()

    def _record_items(self, abandoned: Callable[[], bool] = lambda: False) -> None:
        record = self.served.record(timestamp=self._clock(), policy_version=self.artifact.version)
        self._journal.record_catalog(record, abandoned)

    @property
    def catalog_version(self) -> str:
        """Of the items that are served, and of the mask."""
        return self.served.version

    def put_mask(self, masked: Collection[str], abandoned: Callable[[], bool] = lambda: False) -> None:
        """Mask these items and no others, from the next slate on and after every start, until they are lifted.

        Args:
            masked: names of items; those that the catalog does not have hold for a later one.
            abandoned: True once nobody waits for the answer any more.

        Raises:
            SlatewiseError: it could not be recorded; what was masked before is masked.
        """
        earlier = self.served.masked
        self.served.put_mask(masked)
        try:
            self._record_items(abandoned)
        except BaseException:
            self.served.put_mask(earlier)
            raise

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Lines of the log that could not be applied."""
        return self._journal.set_aside

    @property
    def example_user(self) -> str | None:
        """Name of a user of the log that users start from; None where there is no such log."""
        return self.users.example

    @property
    def simulated(self) -> bool:
        """True where the policy learned from a simulated log."""
        return self.artifact.manifest.source.simulated

    @torch.inference_mode()
    def recommend(self, request: RecommendRequest, abandoned: Callable[[], bool] = lambda: False) -> RecommendAnswer:
        """A slate for one user, recorded before it is given out.

        Args:
            request: what is asked.
            abandoned: True once nobody waits for the answer any more.

        Raises:
            RefusedError: a slate that cannot be made; nothing is recorded.
            SlatewiseError: it could not be recorded.
        """
        conditions = self._door.conditions(request)
        context, features = self._door.context(request), self._door.user_features(request)
        with self._journal.recording(abandoned) as apply:
            user = self.users.find(request.user_id)
            slates = self.artifact.policy.recommend(
                self.users.state(user, context, features),
                self._door.with_seen(conditions, user.used_items),
                generator=self._generator,
            )
            numbers, logp = _served_items(slates, request)
            decision = self._decision(request, conditions, numbers, logp, context)
            answer = self._answer(decision, numbers, logp)
            apply(decision)
        self.decisions += 1
        return answer

    @torch.inference_mode()
    def feedback(self, feedback: Sequence[Feedback], abandoned: Callable[[], bool] = lambda: False) -> FeedbackAnswer:
        """Record outcomes and move the states of their users; all of them, or none if one cannot be used.

        Args:
            feedback: the outcomes.
            abandoned: True once nobody waits for the answer any more.

        Raises:
            UnknownEventError: an outcome of a slate that was not served here.
            RefusedError: an outcome that does not fit its slate, or whose reward no state can hold.
            SlatewiseError: they could not be recorded; none was.
        """
        receipts: list[Receipt] = []
        with self._journal.recording(abandoned) as apply:
            for index, arrival in enumerate(self._door.arrivals(feedback, clock=self._clock)):
                new = arrival.known_as is None
                try:
                    moved = new and apply(arrival.outcome)
                except LineError as error:
                    raise RefusedError(
                        f"{f'outcome {index}: ' if len(feedback) > 1 else ''}{error}",
                        expected=REWARDS_EXPECTED,
                        advice="Send a smaller value, or lower the weight of its type in [serve] rewards.",
                    ) from error
                receipts.append(
                    Receipt(
                        event_id=arrival.known_as or arrival.outcome.event_id,
                        outcome_id=arrival.outcome.outcome_id,
                        status="accepted" if new else "duplicate",
                        moved=moved,
                    )
                )
        accepted = sum(receipt.status == "accepted" for receipt in receipts)
        self.outcomes += accepted
        return FeedbackAnswer(accepted=accepted, duplicates=len(receipts) - accepted, outcomes=receipts)

    def fault(self) -> str:
        """Why nothing can be recorded at the moment; "" where it can. May be called from another thread."""
        return self._journal.fault()

    def sync(self) -> None:
        """Wait until the disk has all; may be called from another thread."""
        self._journal.sync()

    def close(self) -> None:
        """Flush, and let go of log and store."""
        self._journal.close()

    def _reward(self, outcome: Outcome) -> float:
        return self.config.reward(outcome.type, outcome.value)

    def _decision(
        self,
        request: RecommendRequest,
        conditions: SlateRequest,
        numbers: list[int],
        logp: list[float],
        context: list[float],
    ) -> Decision:
        """What the log keeps of a slate: what was shown, with which propensities, and under which conditions."""
        moment = self._clock()
        names = self.artifact.catalog.vocabulary
        draw = conditions.exploration
        return Decision(
            event_id=event_name(moment),
            timestamp=moment,
            user_id=request.user_id,
            session_id=request.session_id,
            slate=[names.name(number) for number in numbers],
            logp=logp,
            policy_version=self.artifact.version,
            explored=[factor < 0 for factor in logp],
            context=context or None,
            user_features=request.user_features or None,
            k=request.k,
            exploration=None
            if draw is None
            else LoggedExploration(top_m=draw.top_m, keep=draw.keep, temperature=draw.temperature),
            exclude=request.exclude or None,
            exclude_seen=not self.config.allow_repeats,
            candidates=request.candidates,
            where=request.where,
            fixed=request.fixed or None,
            catalog_version=self.catalog_version,
        )

    def _answer(self, decision: Decision, numbers: list[int], logp: list[float]) -> RecommendAnswer:
        shown = [
            Shown(
                item_id=name,
                title=self.artifact.catalog.title(number),
                position=position,
                logp=factor,
                propensity=math.exp(factor),
                explored=factor < 0,
            )
            for position, (name, number, factor) in enumerate(zip(decision.slate, numbers, logp, strict=True))
        ]
        return RecommendAnswer(
            event_id=decision.event_id,
            policy_version=self.artifact.version,
            items=shown,
            logp=math.fsum(logp),
            simulated=self.simulated,
        )


def user_table_of(artifact: Artifact, dataset: Dataset | None) -> UserTable | None:
    """The features of users that states read: those of a log on the policy's scales, else the policy's own."""
    encoder = artifact.policy.encoder
    if artifact.users is None or not (isinstance(encoder, ReadsContext) and encoder.context_width):
        return None
    of_log = None if dataset is None else dataset.user_table
    return artifact.users if of_log is None else artifact.users.joined_by(of_log)


def _served_items(slates: Slates, request: RecommendRequest) -> tuple[list[int], list[float]]:
    """Item numbers of one slate and their log-propensities, without the positions at its end for which none was left.

    Raises:
        RefusedError: no item is left, or too few to fill the positions before a fixed one.
    """
    real = slates.items[0] != PAD
    numbers: list[int] = slates.items[0][real].tolist()
    logp: list[float] = slates.logp[0][real].tolist()
    if not numbers:
        raise RefusedError(
            f'no item is left to show to "{request.user_id}"',
            expected="an item that is neither excluded nor seen by this user",
            advice="Send other candidates, another filter or fewer exclusions, or start with --allow-repeats.",
        )
    if not bool(real[: len(numbers)].all()):
        raise RefusedError(
            f'{len(numbers) - len(request.fixed)} items are left to show to "{request.user_id}" beside the fixed ones',
            expected="as many as there are positions before the last fixed one",
            advice="Fix earlier positions, or send other candidates, another filter or fewer exclusions.",
        )
    return numbers, logp
