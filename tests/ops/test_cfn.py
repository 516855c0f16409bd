import math

import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch.autograd import gradcheck

from slatewise.ops.cfn import cfn_states, cfn_step


def _plain(inputs: torch.Tensor, initial: torch.Tensor, recurrent: torch.Tensor) -> torch.Tensor:
    """Each step reads its gates' inputs as they stand: W is the identity, b is zero."""
    return cfn_states(inputs, initial, torch.eye(inputs.shape[2]), torch.zeros(len(recurrent)), recurrent)


def test_a_state_alone_by_hand() -> None:
    # no input, no recurrence: both gates stand half open, s' = ½ tanh s
    states = _plain(torch.zeros(1, 2, 3), torch.tensor([[1.0]]), torch.zeros(2, 1))
    torch.testing.assert_close(states, torch.tensor([[[0.380797], [0.181707]]]))


def test_an_input_by_hand() -> None:
    read = math.log(3) / 2  # tanh = ½
    inputs = torch.tensor([[[0.0, 0.0, read], [0.0, math.log(3), read]]])  # σ(ln 3) = ¾
    states = _plain(inputs, torch.zeros(1, 1), torch.zeros(2, 1))
    # ½·½ = .25, then ½ tanh .25 + ¾·½ = .122459 + .375
    torch.testing.assert_close(states, torch.tensor([[[0.25], [0.497459]]]))


def test_recurrent_weights_open_their_gate() -> None:
    recurrent = torch.tensor([[math.log(3)], [0.0]])  # U_z = ln 3 on s = 1: z = ¾
    states = _plain(torch.zeros(1, 1, 3), torch.tensor([[1.0]]), recurrent)
    torch.testing.assert_close(states, torch.tensor([[[0.75 * math.tanh(1.0)]]]))


def test_weights_and_biases_by_hand() -> None:
    # u = 2: W_a u = ½ ln 3, tanh ½; b_i = ln 3, i = ¾; W_z u + b_z = 0
    weight = torch.tensor([[0.5], [0.0], [math.log(3) / 4]])
    bias = torch.tensor([-1.0, math.log(3)])
    states = cfn_states(torch.tensor([[[2.0]]]), torch.tensor([[1.0]]), weight, bias, torch.zeros(2, 1))
    torch.testing.assert_close(states, torch.tensor([[[0.375 + 0.380797]]]))


def _arguments(batch: int, steps: int, width: int, seed: int, read: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return draw(batch, steps, read), draw(batch, width), draw(3 * width, read), draw(2 * width), draw(2 * width, width)


def test_the_written_out_backward_is_the_gradient() -> None:
    assert gradcheck(cfn_states, _arguments(batch=2, steps=4, width=3, seed=0))


@settings(max_examples=20, deadline=None)
@given(batch=integers(1, 4), steps=integers(1, 6), width=integers(1, 5), seed=integers(0, 1000))
def test_rolled_out_steps_agree_in_value_and_gradient(batch: int, steps: int, width: int, seed: int) -> None:
    arguments = _arguments(batch, steps, width, seed)
    inputs, initial, *weights = arguments
    state, states = initial, []
    for t in range(steps):
        state = cfn_step(inputs[:, t], state, *weights)
        states.append(state)
    expected = torch.stack(states, dim=1)
    result = cfn_states(inputs, initial, *weights)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for a, b in zip(
        torch.autograd.grad(result, arguments, upstream),
        torch.autograd.grad(expected, arguments, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_arguments_are_left_as_they_were() -> None:
    for steps, batch in ((1, 1), (3, 2)):
        arguments = _arguments(batch, steps, width=2, seed=0)
        copies = [argument.detach().clone() for argument in arguments]
        cfn_states(*arguments).sum().backward()  # type: ignore[no-untyped-call]
        for argument, copy in zip(arguments, copies, strict=True):
            assert torch.equal(argument.detach(), copy)


def test_no_steps_give_no_states_and_no_gradient() -> None:
    arguments = _arguments(batch=2, steps=0, width=3, seed=0)
    states = cfn_states(*arguments)
    assert states.shape == (2, 0, 3)
    states.sum().backward()  # type: ignore[no-untyped-call]
    for argument in arguments:
        assert argument.grad is not None
        assert not argument.grad.any()


def test_a_second_backward_through_the_same_graph_gives_the_same() -> None:
    arguments = _arguments(batch=2, steps=3, width=2, seed=1)
    total = cfn_states(*arguments).square().sum()
    first = torch.autograd.grad(total, arguments, retain_graph=True)
    second = torch.autograd.grad(total, arguments)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
