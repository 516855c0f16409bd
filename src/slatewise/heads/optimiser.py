"""The state of a gradient learner as one flat table of tensors: weights, Adam's moments, the generator."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.encoders._dropout import Dropout
from slatewise.protocols import StateEncoder


def let_dropout_draw(encoder: StateEncoder, generator: Generator) -> None:
    """Give the learner's generator to the parts of an encoder that draw while training."""
    if isinstance(encoder, nn.Module):
        for part in encoder.modules():
            if isinstance(part, Dropout):
                part.generator = generator


def descend(
    loss: Float[Tensor, ""], parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, clip_norm: float
) -> None:
    """One step down the gradient of the loss, the norm of which is limited.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; no weight has been touched.
    """
    advice = "lower method.lr, or look for extreme rewards (`slatewise data validate`)"
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError(f"the loss is {loss.item()}: {advice}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    if not bool(torch.isfinite(norm)):
        raise FloatingPointError(f"the gradient's norm is {norm.item()}: {advice}")
    optimiser.step()


def flat_state(module: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator) -> dict[str, Tensor]:
    """Everything a learner needs to go on bit for bit."""
    flat = {f"policy.{name}": value.detach() for name, value in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        flat |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return flat | {"generator": generator.get_state()}


def restore_state(
    module: nn.Module, optimiser: torch.optim.Optimizer, generator: Generator, flat: dict[str, Tensor]
) -> None:
    """Put back what `flat_state` gave."""
    module.load_state_dict(under("policy.", flat))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value.clone()
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(flat["generator"])


def under(prefix: str, flat: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a flat table whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in flat.items() if name.startswith(prefix)}
