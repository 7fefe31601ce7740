"""The critic's distance beside closed forms of one dimension."""

from __future__ import annotations

import math

import torch

from prune_search.training.randomness import generator
from prune_search.training.wasserstein import CriticTraining, distance, trained_critic

HOW = CriticTraining(steps=200, rate=0.1, hidden=(16, 16))


def normal(word: str, count: int = 200, size: int = 1, mean: float = 0.0, deviation: float = 1.0) -> torch.Tensor:
    return mean + deviation * torch.randn(count, size, generator=generator(0, word))


def test_gaussians_of_one_dimension_and_the_same_width_are_as_far_apart_as_their_means() -> None:
    for gap in (1.0, -3.0):
        critic = trained_critic(normal("a", mean=gap), normal("b"), HOW, generator(0, "critic"))
        found = float(distance(critic, normal("c", 4000, mean=gap), normal("d", 4000)))
        # A penalty of 10 lets slopes of 1 + gap / 20 pass; the rest is the error of 200 draws.
        assert abs(gap) * 0.9 < found < abs(gap) * (1 + abs(gap) / 20 + 0.1)


def test_round_gaussians_are_the_difference_of_their_widths_times_the_mean_norm_apart() -> None:
    # The best critic is the norm; E‖z‖ of five dimensions is √2 Γ(3) / Γ(2.5).
    norm = 2**0.5 * math.gamma(3) / math.gamma(2.5)
    critic = trained_critic(normal("a", size=5, deviation=3.0), normal("b", size=5), HOW, generator(0, "critic"))
    found = float(distance(critic, normal("c", 4000, 5, deviation=3.0), normal("d", 4000, 5)))
    assert 0.7 * 2 * norm < found < 1.3 * 2 * norm


def test_of_the_same_distribution_the_distance_is_near_zero() -> None:
    critic = trained_critic(normal("a"), normal("b"), HOW, generator(0, "critic"))
    assert abs(float(distance(critic, normal("c", 4000), normal("d", 4000)))) < 0.1


def test_it_depends_on_its_generator_alone_and_has_a_gradient_for_the_first_set() -> None:
    ours, theirs = normal("a").requires_grad_(), normal("b")
    how = CriticTraining(steps=5, hidden=(8,))
    torch.manual_seed(1)
    one = trained_critic(ours, theirs, how, generator(3))
    torch.manual_seed(2)
    other = trained_critic(ours, theirs, how, generator(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    distance(one, ours, theirs).backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert (ours.grad != 0).all()
    assert all(parameter.grad is None for parameter in one.parameters())
