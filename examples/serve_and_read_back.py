"""The loop closed: a policy is served, users answer, and what the service wrote down is imported as the next log."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from slatewise.config.run import RunConfig
from slatewise.data.reading.importing import import_path
from slatewise.serve import Feedback, Options, RecommendRequest, open_recommender
from slatewise.serve.http.schema import Explore
from slatewise.training.loop import train

ROWS = ((user, item) for user in range(20) for item in range(user % 4, 20, 1 + user % 3))

with TemporaryDirectory() as name:
    folder = Path(name)
    lines = [f"u{user},film {item:02d},{1_600_000_000 + 60 * at},1" for at, (user, item) in enumerate(ROWS)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,reward", *lines]) + "\n", encoding="utf-8")
    import_path(folder / "log.csv", folder / "data")
    train(
        RunConfig.from_tables({"data": {"path": str(folder / "data")}, "method": {"name": "popularity"}}),
        folder / "run",
    )

    # what stands behind POST /recommend and POST /feedback
    service = open_recommender(folder / "run", Options(seed=5))
    served: list[float] = []
    for user in ("ada", "ben", "cleo"):
        answer = service.recommend(RecommendRequest(user_id=user, k=3, explore=Explore(keep=1)))
        print(user, [(shown.item_id, round(shown.propensity, 3)) for shown in answer.items])
        served += [shown.logp for shown in answer.items]
        click = Feedback(event_id=answer.event_id, position=2, outcome_id=f"click of {user}")
        for _ in range(2):  # delivered twice, counted once
            service.feedback([click])
    service.close()

    # the service's events are a log like any other: slates, propensities, what was used, what it earned
    log = import_path(folder / "run" / "serve" / "events", folder / "next").interactions
    used = (np.flatnonzero(log.used) % 3).tolist()
    print(f"{log.num_events} events of {log.slate_size} items, used at {used}, reward {log.reward.sum()}")
    assert np.array_equal(np.sort(log.logp), np.sort(np.array(served, np.float32))), (
        "the served propensities, bit for bit"
    )
