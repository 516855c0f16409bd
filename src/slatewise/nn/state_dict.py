"""The state of a gradient learner as one flat dictionary of tensors: weights, Adam's moments, the generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn


def flat_state(module: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator) -> dict[str, Tensor]:
    """Everything a learner needs to continue bit for bit.

    Args:
        module: its weights get the prefix "policy.".
        optimiser: its moments get the prefix "optimiser.".
        generator: its state is stored as "generator".
    """
    flat = {f"policy.{name}": value.detach() for name, value in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        flat |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return flat | {"generator": generator.get_state()}


def restore_state(
    module: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator, flat: dict[str, Tensor]
) -> None:
    """Restore the state that `flat_state` returned.

    Args:
        module: receives the weights.
        optimiser: receives the moments.
        generator: receives its state.
        flat: the state.
    """
    module.load_state_dict(under("policy.", flat))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value.clone()
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(flat["generator"])


def under(prefix: str, flat: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a flat dictionary whose names begin with a prefix, with the prefix removed."""
    return {name[len(prefix) :]: value for name, value in flat.items() if name.startswith(prefix)}
