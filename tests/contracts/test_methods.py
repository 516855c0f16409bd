from __future__ import annotations

import pytest

from slatewise.config import components, find
from slatewise.testing import ContractError, check_method, check_popularity_fallback


@pytest.mark.parametrize("method", components("methods"))
def test_a_method_keeps_its_contract(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize("encoder", components("encoders"))
def test_a_method_keeps_it_on_every_encoder(encoder: str) -> None:
    check_method("cloning", encoder=encoder)


@pytest.mark.parametrize("method", ["item_knn", "popularity"])
def test_a_counting_method_falls_back_on_popularity(method: str) -> None:
    check_popularity_fallback(method)


def test_a_method_with_another_fallback_is_found_out() -> None:
    with pytest.raises(
        ContractError, match=r"methods\.cloning: the slate of an unknown user, .*, against popularity's"
    ):
        check_popularity_fallback("cloning")


@pytest.mark.parametrize("method", components("methods"))
def test_every_method_says_what_unknown_users_get(method: str) -> None:
    assert "\nUnknown users: " in (find("methods", method).__doc__ or "")


SCHEDULED = {"first": 0.003, "last": 0.0003, "updates": 5}


@pytest.mark.parametrize("method", ["cloning", "reinforce", "slateq", "tpgr", "wolpertinger"])
def test_a_method_keeps_it_with_a_scheduled_rate(method: str) -> None:
    """A learner that is restored in the middle of the schedule goes on with its rates."""
    check_method(method, settings={"lr": SCHEDULED})


def test_a_method_keeps_it_with_a_scheduled_rate_of_imitation() -> None:
    check_method("fcpo", settings={"imitation": {"lr": SCHEDULED}})


def test_a_method_keeps_it_with_a_scheduled_trust_region() -> None:
    check_method("fcpo", settings={"slate_size": 3, "trust_region": {"max_kl": SCHEDULED | {"shape": "geometric"}}})
