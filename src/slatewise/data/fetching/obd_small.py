"""The small sample of the Open Bandit Dataset: impressions with propensities, by a random and by a learned policy.

Both logs are in one data set, with one vocabulary and one set of context columns: the value of the policy "bts" is
estimated from the events of "random" and compared with the mean click of its own events. policy_id distinguishes them,
and no user has events of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from slatewise.data.fetching.download import Files, Source, Wheel
from slatewise.data.fetching.recipe import Options, Recipe

# name in the cache → path, SHA-256; both logs encode the items identically except for the codes' names, so one item
# table is enough
_FILES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "all": {
        "random.csv": ("random/all/all.csv", "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1"),
        "bts.csv": ("bts/all/all.csv", "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106"),
        "items.csv": (
            "random/all/item_context.csv",
            "eba04cc23d5f130a93ff174c5392986882b94c3839433cb8143870eaa6221358",
        ),
    },
    "men": {
        "random.csv": ("random/men/men.csv", "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb"),
        "bts.csv": ("bts/men/men.csv", "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527"),
        "items.csv": (
            "random/men/item_context.csv",
            "6d855c2b7e917d0448d71bbe62c023147495882c0fdc8c41e86fef86abf9fe09",
        ),
    },
    "women": {
        "random.csv": ("random/women/women.csv", "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34"),
        "bts.csv": ("bts/women/women.csv", "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8"),
        "items.csv": (
            "random/women/item_context.csv",
            "b1ca4905f97703d196004f2ad4552c1e90c2afad8b50688d333b0d2dc0b33147",
        ),
    },
}


def _sources(options: Options) -> Sequence[Source]:
    inside, page = "obp/dataset/obd", options.campaign
    pinned = _FILES[page]
    return (
        Wheel(
            project="obp",
            version="0.4.1",
            sha256="87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
            members={name: f"{inside}/{path}" for name, (path, _) in pinned.items()},
        ),
        Files(
            url="https://raw.githubusercontent.com/st-tech/zr-obp/12eb4f1738b8220498f9faed5ff6a4ffe5f4c626/",
            members={name: (f"{inside}/{path}", digest) for name, (path, digest) in pinned.items()},
        ),
    )


def _tables(folder: Path, options: Options) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Impressions of one item each, with the features of the visitor and the item's position on the screen.

    The log has no user ids, only four codes per visitor: a "user" is a combination of codes under one policy, and every
    event is a session of its own, so that returns never span two visitors.
    """
    logs = [
        pl.read_csv(folder / f"{policy}.csv", infer_schema_length=10_000).with_columns(policy_id=pl.lit(policy))
        for policy in ("random", "bts")
    ]
    log = pl.concat(logs).with_row_index("event_id").with_columns(pl.col("event_id").cast(pl.Int64))
    codes = [f"user_feature_{index}" for index in range(4)]
    # from both logs, whichever is selected: a policy trained on one must be applicable to the other
    code_values = [(code, value) for code in codes for value in sorted(log[code].unique().to_list())]
    places = sorted(log["position"].unique().to_list())
    if options.policy != "both":
        log = log.filter(pl.col("policy_id") == options.policy)
    frame = log.select(
        "event_id",
        pl.concat_str(["policy_id", *(pl.col(code).str.slice(0, 6) for code in codes)], separator="/").alias("user_id"),
        pl.col("item_id").cast(pl.String),
        pl.col("event_id").cast(pl.String).alias("session_id"),
        pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us").dt.epoch("us"),
        pl.col("click").cast(pl.Float32).alias("reward"),
        pl.lit(0, pl.Int64).alias("position"),
        pl.col("propensity_score").alias("propensity"),
        "policy_id",
        (pl.col("click") > 0).alias("used"),
        *(
            (pl.col(code) == value).cast(pl.Float32).alias(f"context_{code.removeprefix('user_')}_{value[:6]}")
            for code, value in code_values
        ),
        *((pl.col("position") == place).cast(pl.Float32).alias(f"context_place_{place}") for place in places),
    )
    table = pl.read_csv(folder / "items.csv")
    items = table.select(
        pl.col("item_id").cast(pl.String),
        pl.format("item {}", "item_id").alias("text"),
        pl.concat_list(
            # the code with the fewest values first, because it becomes the group
            pl.format(f"{index}/{{}}", pl.col(f"item_feature_{index}").str.slice(0, 6))
            for index in (3, 1, 2)
        ).alias("labels"),
        pl.col("item_feature_0").alias("feature_0"),
    )
    return frame, items


RECIPE = Recipe(
    name="obd-small",
    title="Open Bandit Dataset, small sample: items shown in a fashion shop by two policies, ZOZO, Inc., 2019",
    kind="impressions",
    licence=(
        "published by ZOZO, Inc. for research; the package that carries the sample is under the Apache License "
        "2.0. Full text: https://research.zozo.com/data.html and https://github.com/st-tech/zr-obp"
    ),
    citation=(
        "Yuta Saito, Shunsuke Aihara, Megumi Matsutani, Yusuke Narita. 2020. Open Bandit Dataset and Pipeline: "
        "Towards Realistic and Reproducible Off-Policy Evaluation. https://arxiv.org/abs/2008.07146"
    ),
    sources=_sources,
    tables=_tables,
    options=("campaign", "policy"),
)
