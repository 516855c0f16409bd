"""A trained policy behind HTTP: slates with exact propensities, outcomes, and the log that both become.

app          HTTP and nothing else
recommender  carry → state → slate → event → outcome → carry
events       the durable log, the truth
store        its index: memories, served slates, outcomes that were taken
"""

from slatewise.serve.http.app import create_app
from slatewise.serve.http.schema import Feedback, RecommendRequest
from slatewise.serve.opening import Options, open_recommender
from slatewise.serve.recommender import Recommender

__all__ = ["Feedback", "Options", "RecommendRequest", "Recommender", "create_app", "open_recommender"]
