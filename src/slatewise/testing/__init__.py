"""Contract checks for components, ours or a stranger's: a new component's test is one call.

    def test_my_method() -> None:
        check_method("mypackage.my_method")

A check raises `ContractError` with what was expected. It needs no test framework.
"""

from slatewise.testing._contract import ContractError
from slatewise.testing._coverage import Coverage, CoverageSetting, measure_coverage
from slatewise.testing._encoders import check_encoder, check_states
from slatewise.testing._envs import check_env
from slatewise.testing._estimators import check_estimator
from slatewise.testing._logs import toy_dataset, written_log
from slatewise.testing._methods import check_method, check_popularity_fallback
from slatewise.testing._policies import check_policy
from slatewise.testing._retrievers import check_retriever
from slatewise.testing._toys import toy_catalog, toy_log
from slatewise.testing._trajectories import check_trajectories

__all__ = [
    "ContractError",
    "Coverage",
    "CoverageSetting",
    "check_encoder",
    "check_env",
    "check_estimator",
    "check_method",
    "check_policy",
    "check_popularity_fallback",
    "check_retriever",
    "check_states",
    "check_trajectories",
    "measure_coverage",
    "toy_catalog",
    "toy_dataset",
    "toy_log",
    "written_log",
]
