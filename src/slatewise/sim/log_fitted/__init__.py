"""Users fitted to a log: what they pick, what it is worth, how they change and when they leave.

`slatewise train` fits a user model (`[method] name = "slatewise.sim.log_fitted.learner"`), `Env` lets it live. See
model.py for its parts and verdict.py for what a log must hold.
"""

from slatewise.sim.log_fitted.env import METHOD, Config, Env, Fitted, load
from slatewise.sim.log_fitted.verdict import Verdict, examine

__all__ = ["METHOD", "Config", "Env", "Fitted", "Verdict", "examine", "load"]
