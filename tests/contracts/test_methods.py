from __future__ import annotations

import pytest

from slatewise.config import components
from slatewise.testing import check_method


@pytest.mark.parametrize("method", components("methods"))
def test_a_method_keeps_its_contract(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize("encoder", components("encoders"))
def test_a_method_keeps_it_on_every_encoder(encoder: str) -> None:
    check_method("cloning", encoder=encoder)


SCHEDULED = {"first": 0.003, "last": 0.0003, "updates": 5}


@pytest.mark.parametrize("method", ["cloning", "reinforce", "slateq", "tpgr", "wolpertinger"])
def test_a_method_keeps_it_with_a_scheduled_rate(method: str) -> None:
    """A learner that is restored in the middle of the schedule goes on with its rates."""
    check_method(method, settings={"lr": SCHEDULED})


def test_a_method_keeps_it_with_a_scheduled_rate_of_imitation() -> None:
    check_method("fcpo", settings={"imitation": {"lr": SCHEDULED}})


def test_a_method_keeps_it_with_a_scheduled_trust_region() -> None:
    check_method("fcpo", settings={"slate_size": 3, "trust_region": {"max_kl": SCHEDULED | {"shape": "geometric"}}})
