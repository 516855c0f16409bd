"""Probabilities and divergences held against torch.distributions, slates against an enumeration of all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from slatewise.ops.choice import choice_probabilities
from slatewise.ops.full_softmax import log_softmax_at
from slatewise.ops.importance import divergence_weight
from slatewise.ops.list_rows import row_divergence, row_mean, row_normaliser, rows_log_prob
from slatewise.ops.sampling import chain_log_prob, shortlist
from slatewise.ops.sessions import mixture_draw, mixture_log_density
from slatewise.types import Exploration

NEG_INF = float("-inf")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def slot_by_slot(logits: Tensor, slate: tuple[int, ...]) -> float:
    """Log-probability of a slate: slot k draws from row k of the logits, without what stands in the slots before."""
    total = 0.0
    for slot, item in enumerate(slate):
        left = logits[slot].clone()
        left[list(slate[:slot])] = NEG_INF
        total += float(Categorical(logits=left).log_prob(torch.tensor(item)))
    return total


@settings(max_examples=25, deadline=None)
@given(states=st.integers(1, 5), items=st.integers(1, 9), width=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_the_softmax_at_one_item_is_that_of_a_categorical(states: int, items: int, width: int, seed: int) -> None:
    state, weight, bias = (
        normal(states, width, seed=seed),
        normal(items, width, seed=seed + 1),
        normal(items, seed=seed),
    )
    target = torch.randint(items, (states,), generator=Generator().manual_seed(seed))
    expected = Categorical(logits=state @ weight.T + bias).log_prob(target)
    torch.testing.assert_close(log_softmax_at(state, weight, bias, target), expected)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("keep", [0, 1])
def test_drawn_slates_are_plackett_luce(temperature: float, keep: int) -> None:
    scores = normal(1, 5, seed=7)
    explore = Exploration(top_m=5, keep=keep, temperature=temperature)
    slates = [slate for slate in itertools.permutations(range(5), 3) if slate[:keep] == (int(scores.argmax()),)[:keep]]
    values, columns = shortlist(scores, 3, explore)
    places = torch.tensor([[columns[0].tolist().index(item) for item in slate] for slate in slates])
    logp = chain_log_prob(values.expand(len(slates), -1), places, explore).sum(dim=1)
    rows = (scores / temperature).expand(3, -1).clone()
    if keep:
        # the best item stands first for certain
        rows[0] = torch.full((5,), NEG_INF, dtype=torch.float64)
        rows[0, scores.argmax()] = 0.0
    torch.testing.assert_close(logp, torch.tensor([slot_by_slot(rows, slate) for slate in slates]).double())
    assert float(logp.exp().sum()) == pytest.approx(1.0)


def test_rows_of_logits_give_every_list_its_probability() -> None:
    logits = normal(1, 3, 5, seed=3)
    lists = list(itertools.permutations(range(5), 3))
    logp = rows_log_prob(logits.expand(len(lists), -1, -1), torch.tensor(lists), Exploration(top_m=5)).sum(dim=1)
    torch.testing.assert_close(logp, torch.tensor([slot_by_slot(logits[0], slate) for slate in lists]).double())
    assert float(logp.exp().sum()) == pytest.approx(1.0)


def test_divergences_of_rows_are_those_of_categoricals() -> None:
    old, new, vectors = normal(4, 3, 2, seed=0), normal(4, 3, 2, seed=1), normal(6, 2, seed=2)
    closed = torch.rand(4, 3, 6, generator=Generator().manual_seed(3)) < 0.3
    closed[..., 0] = False

    def distribution(rows: Tensor) -> Categorical:
        # a closed column has no chance; −1e9 in place of −inf, whose 0 · (−inf − −inf) is no number
        return Categorical(logits=(rows @ vectors.T).masked_fill(closed, -1e9))

    old_total, new_total = row_normaliser(old, vectors, closed), row_normaliser(new, vectors, closed)
    mean = row_mean(old, vectors, closed, old_total)
    torch.testing.assert_close(mean, distribution(old).probs @ vectors)
    torch.testing.assert_close(
        row_divergence(old, new, mean, old_total, new_total), kl_divergence(distribution(old), distribution(new))
    )


def test_the_divergence_penalty_is_the_gradient_of_the_divergence() -> None:
    logits = normal(5, seed=0).requires_grad_()
    pi, beta = Categorical(logits=logits), Categorical(logits=normal(5, seed=1))
    (expected,) = torch.autograd.grad(kl_divergence(pi, beta), logits, retain_graph=True)
    items = torch.arange(5)
    log_pi, log_beta = pi.log_prob(items), beta.log_prob(items)
    weight = divergence_weight(log_pi.detach(), log_beta, cap=torch.inf)
    (gradient,) = torch.autograd.grad((log_beta.exp() * weight * log_pi).sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_choices_are_categorical_in_the_weights() -> None:
    weight, null = normal(4, 3, seed=0).exp(), normal(4, seed=1).exp()
    expected = Categorical(probs=torch.cat([weight, null.unsqueeze(1)], dim=1)).probs
    torch.testing.assert_close(choice_probabilities(weight, null), expected)


def mixture(seed: int, rows: int = 6) -> tuple[Tensor, Tensor, Tensor, MixtureSameFamily]:
    logits, mean, log_std = (normal(rows, 3, seed=seed + part) for part in range(3))
    return logits, mean, log_std, MixtureSameFamily(Categorical(logits=logits), Normal(mean, log_std.exp()))


def test_densities_of_mixtures() -> None:
    logits, mean, log_std, expected = mixture(0)
    values = 3 * normal(6, seed=9)
    torch.testing.assert_close(mixture_log_density(values, logits, mean, log_std), expected.log_prob(values))


def test_draws_from_mixtures_have_their_moments() -> None:
    logits, mean, log_std, expected = mixture(4, rows=1)
    generator = Generator().manual_seed(0)
    shape, count = (40_000, 3), 40_000
    draws = mixture_draw(
        logits.expand(shape),
        mean.expand(shape),
        log_std.expand(shape),
        torch.rand(count, generator=generator, dtype=torch.float64),
        torch.randn(count, generator=generator, dtype=torch.float64),
    )
    deviation = float(expected.stddev)
    assert float(draws.mean()) == pytest.approx(float(expected.mean), abs=4.5 * deviation / count**0.5)
    assert float(draws.std()) == pytest.approx(deviation, rel=0.05)
