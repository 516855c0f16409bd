"""The simulators as Gymnasium environments.

Importing this module registers `slatewise/InterestEvolution-v0`, `slatewise/InterestExploration-v0`,
`slatewise/LongTermSatisfaction-v0` and `slatewise/TopicBoredom-v0`; it loads nothing but Gymnasium. Gymnasium looks for
no environments by itself since its version 1.0, so either import it, or name it in the id: then nothing is imported by
hand, `gymnasium.make("slatewise.gymnasium:slatewise/InterestEvolution-v0")`.

    >>> import gymnasium
    >>> import slatewise.gymnasium
    >>> env = gymnasium.make("slatewise/InterestEvolution-v0", slate_size=2, choice="mnl")
    >>> observation, info = env.reset(seed=0)
    >>> {name: array.shape for name, array in observation.items()}
    {'user': (20,), 'candidates': (10, 20), 'response': (2,)}
    >>> observation, reward, terminated, truncated, info = env.step([4, 7])
    >>> envs = gymnasium.make_vec("slatewise/InterestEvolution-v0", num_envs=4096)
    >>> envs.metadata["autoreset_mode"].name
    'SAME_STEP'

Arguments of `make` and `make_vec` are the settings of the simulator's `Config`, and `duplicates`.

**Observation**, a `Dict` of float32 boxes; keys that an environment does not have are left out:

    user        observed features of the user, X numbers
    candidates  a row per candidate: its features, and what is observed of it at this step (quality, clickbait score)
    response    reward of every position of the previous slate; zeros at first

**Action**, a `MultiDiscrete`: for each position of the slate, the index of an item in `candidates`, or in the catalog
where there are no candidates (topic boredom). An item is shown once: where an action repeats it, that position stays
empty (duplicates="drop"), or the action is refused (duplicates="refuse").

**Reward** is the sum over the slate. `info` has the number of the `user` and the position of the `choice` (−1: none).

**Ends.** Users are replaced within the step that ends their session, so that the vector environments reset in the same
step (`AutoresetMode.SAME_STEP`, with `final_obs` and `final_info`). A session's final observation is the one before its
last step, with the response of that step: nothing later is observed of the user. Interest exploration never
terminates and is truncated; its users do not change, and candidates are drawn independently at each step, so the last
observed candidates stand for the next ones.

A single environment simulates one user at a time and takes a new one at `reset`; with a seed it starts from scratch.
"""

from __future__ import annotations

import gymnasium

ENVIRONMENTS = {
    "slatewise/InterestEvolution-v0": "interest_evolution",
    "slatewise/InterestExploration-v0": "interest_exploration",
    "slatewise/LongTermSatisfaction-v0": "long_term_satisfaction",
    "slatewise/TopicBoredom-v0": "topic_boredom",
}
"""Id → file name in sim/."""

for _id, _name in ENVIRONMENTS.items():
    gymnasium.register(
        id=_id,
        entry_point="slatewise.gymnasium.vector_env:SingleEnv",
        vector_entry_point="slatewise.gymnasium.vector_env:ManyEnvs",
        kwargs={"env": _name},
    )
