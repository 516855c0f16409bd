"""How often the 95 % interval of SNIPS covers the truth, in the logs of which the verdict says that they can judge.

Every setting is simulated with a truth that is known by enumeration (`slatewise.testing.measure_coverage`). A seed
draws other policies, too. Interval and thresholds were chosen on other seeds than 1000, the seed of the table in
docs/guides/verdict.md.

bar       the verdict speaks ("can judge") on fewer than a fifth of the logs, or the interval covers 93 to 97 % of those
          on which it speaks; and it speaks on at least 80 % of the logs with ESS ≥ 10 % of ≥ 1,000 trajectories. On
          logs that do not show what the policy does it is silent.

python bench/ope_coverage.py [--json] [--quick] [--seed 1000] [--logs 2000] [--processes 2] [--write]
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _run import finish, parser

# isort: split
import torch

from slatewise.files import atomic_file
from slatewise.ope.ips import Snips
from slatewise.stats import wilson
from slatewise.testing import Coverage, CoverageSetting, measure_coverage

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "verdict.md"
BLOCK = re.compile(r"(?<=--write -->\n).*?(?=<!-- end of coverage -->)", re.DOTALL)
MANY_USERS, EFFECTIVE_BAR, SELDOM, LOW_BAR, HIGH_BAR = 1000, 0.8, 0.2, 0.93, 0.97
SETTINGS = (
    CoverageSetting(name="near policies", users=1000, distance=0.5),
    CoverageSetting(name="far policies", users=1000, distance=2.0),
    CoverageSetting(name="farther policies", users=1000, distance=3.0, sharpness=1.5),
    CoverageSetting(name="far and better", users=1000, distance=2.0, alignment=0.8),
    CoverageSetting(name="10 steps, near", users=50, steps=10, distance=0.5, user_effect=0.7),
    CoverageSetting(name="10 steps, far", users=50, steps=10, distance=2.0, user_effect=0.7),
    CoverageSetting(name="few long trajectories", users=20, steps=100, user_effect=0.7),
    CoverageSetting(name="few long, far", users=20, steps=100, distance=2.5, user_effect=0.7),
    CoverageSetting(name="strong user effects", users=200, steps=10, user_effect=2.0),
    CoverageSetting(name="lengths vary", users=300, steps=40, lengths="geometric", user_effect=0.7),
    CoverageSetting(name="rare clicks", users=2000, base=-5.0, distance=0.7),
    CoverageSetting(name="rare clicks, 10 steps", users=400, steps=10, base=-5.0, user_effect=0.7),
    CoverageSetting(name="grades 1 to 5", users=1000, rewards="grades"),
    CoverageSetting(name="grades, 40 users", users=40, steps=10, rewards="grades", user_effect=0.7),
    CoverageSetting(name="amounts", users=3000, rewards="amounts", base=-2.0),
    CoverageSetting(name="deterministic policy", users=2000, exploration=0.5),
    CoverageSetting(name="heavy tail of weights", users=2000, tail=2.2),
    CoverageSetting(name="no variance of weights", users=2000, tail=1.7),
    CoverageSetting(name="a fifth never shown", users=1000, distance=0.5, uncovered=0.2),
)


def main() -> None:
    options = parser(__doc__, "ope_coverage")
    options.set_defaults(seed=1000)
    options.add_argument("--logs", type=int, default=2000, help="of each setting")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--write", action="store_true", help="put the table into docs/guides/verdict.md")
    given = options.parse_args()
    begun = time.monotonic()
    logs = 50 if given.quick else given.logs
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = [pool.submit(measure, setting, logs, given.seed) for setting in SETTINGS]
        results = [job.result() for job in jobs]
    if given.write:
        page = PAGE.read_text("utf-8")
        with atomic_file(PAGE) as temporary:
            temporary.write_text(BLOCK.sub(lambda _: "\n" + "\n".join(table(results)) + "\n\n", page), encoding="utf-8")
    rows = [row(result) for result in results]
    finish(given, begun=begun, settings={"logs": logs}, rows=rows, lines=table(results))


def measure(setting: CoverageSetting, logs: int, seed: int) -> Coverage:
    torch.set_num_threads(1)
    return measure_coverage(Snips(), setting, logs=logs, seed=seed)


def row(result: Coverage) -> dict[str, Any]:
    """The counts of a setting, and whether it meets the bar."""
    return {"name": result.setting.name, **asdict(result), "holds": holds(result)}


def holds(result: Coverage) -> bool:
    """The bar that stands above, for one setting; with a policy that the log does not cover, silence."""
    if result.setting.uncovered:
        return result.speaks < SELDOM * result.logs
    covers = LOW_BAR <= result.covered / max(result.speaks, 1) <= HIGH_BAR
    speaks = not counts_effective(result) or result.speaks_effective >= EFFECTIVE_BAR * result.effective
    return (covers or result.speaks < SELDOM * result.logs) and speaks


def counts_effective(result: Coverage) -> bool:
    """Whether enough logs have ESS ≥ 10 % of many trajectories to say how often the verdict speaks on them."""
    return result.setting.users >= MANY_USERS and result.effective >= SELDOM * result.logs


def table(results: Sequence[Coverage]) -> list[str]:
    """The settings as a table in Markdown."""
    heads = (
        "Setting",
        "users × steps",
        "median ESS",
        "says “can judge”",
        "covers then",
        "95 % interval",
        "covers otherwise",
        "says it where ESS ≥ 10 %",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for result in results:
        low, high = wilson(result.covered, result.speaks)
        often = result.speaks >= SELDOM * result.logs
        cells = (
            result.setting.name,
            f"{result.setting.users:,} × {result.setting.steps}",
            f"{result.median_ess:,.0f}",
            share(result.speaks, result.logs),
            share(result.covered, result.speaks) if often else "says it too seldom",
            f"{low:.1%} … {high:.1%}" if often else "–",
            share(result.covered_silent, result.logs - result.speaks),
            "must not" if result.setting.uncovered else speaks_effective(result),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def speaks_effective(result: Coverage) -> str:
    """How often the verdict speaks on logs with many effective trajectories."""
    return share(result.speaks_effective, result.effective) if counts_effective(result) else "–"


def share(part: int, whole: int) -> str:
    """A share in per cent; a dash for a share of nothing."""
    return f"{part / whole:.1%}" if whole else "–"


if __name__ == "__main__":
    main()
