from __future__ import annotations

import torch

from slatewise.methods.wolpertinger.session_ends import SessionEnds


def test_shares_by_hand() -> None:
    ends = SessionEnds()
    picked, ended = torch.tensor([True, True, True, False]), torch.tensor([True, False, False, False])
    # one step of each kind is counted before any was seen: 2 of 5, 1 of 3
    torch.testing.assert_close(ends.chance(picked, ended), torch.tensor([0.4, 0.4, 0.4, 1 / 3]))
    torch.testing.assert_close(ends.chance(picked[3:], ~ended[3:]), torch.tensor([0.5]))
    assert ends.counts.tolist() == [[1.0, 1.0], [2.0, 1.0]]
