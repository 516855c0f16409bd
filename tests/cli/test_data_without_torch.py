"""The `data` commands read and write logs where torch cannot even be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from slatewise.cli import main; main()"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_log_is_imported_and_validated_without_torch(tmp_path: Path) -> None:
    rows = [
        f"u{user},i{item},{1 + item % 5},{1_600_000_000 + 4 * user + item}" for user in range(3) for item in range(4)
    ]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n", encoding="utf-8")
    imported = run("import", str(log), "--out", str(tmp_path / "data"))
    assert imported.returncode == 0, imported.stderr
    assert "12 rows" in imported.stdout
    for path in (log, tmp_path / "data"):
        validated = run("validate", str(path))
        assert validated.returncode == 0, validated.stdout + validated.stderr
