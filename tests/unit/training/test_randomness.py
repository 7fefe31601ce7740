"""Every draw is a function of the seed, the stream and the counters."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_search.training.randomness import derive, generator

WORDS = st.lists(st.one_of(st.text(max_size=4), st.integers()), max_size=4)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ((0,), 7520536977032167579),
        ((0, "init", "fc1.weight"), 2011553862583259338),
        ((1, "augment", 17), 1131641974206825109),
        ((-3, "data-order", "é", 2**70), 4746007870165809899),
    ],
)
def test_the_values_never_change(words: tuple[int, ...], value: int) -> None:
    assert derive(*words) == value


def test_words_are_not_run_together() -> None:
    lists = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("a", "b", "c"),
        ("a,bc",),
        ('a","bc',),
        ("abc", ""),
        (1, 23),
        (12, 3),
        ("1", 23),
    ]
    assert len({derive(0, *words) for words in lists}) == len(lists)
    assert derive(1) != derive(0, 1)


@settings(deadline=None, max_examples=50)
@given(WORDS, WORDS)
def test_different_words_give_different_numbers_of_63_bits(one: list[str | int], other: list[str | int]) -> None:
    same = [(type(word), word) for word in one] == [(type(word), word) for word in other]
    assert (derive(5, *one) == derive(5, *other)) == same
    assert 0 <= derive(5, *one) < 2**63


@pytest.mark.parametrize("word", [1.0, None, b"a"])
def test_a_counter_that_is_no_whole_number_is_refused(word: object) -> None:
    with pytest.raises(TypeError):
        derive(0, "stream", word)  # type: ignore[arg-type]


def test_a_step_is_replayed_from_its_number_alone() -> None:
    first = [torch.randn(5, generator=generator(3, "noise", step)) for step in range(4)]
    random.seed(99)
    torch.manual_seed(99)
    torch.randn(100, generator=generator(3, "other", 2))
    assert torch.equal(torch.randn(5, generator=generator(3, "noise", 2)), first[2])


def test_streams_steps_and_seeds_are_unrelated() -> None:
    names = [(0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0)]
    draws = torch.stack([torch.randn(20_000, generator=generator(*name)) for name in names])
    correlation = torch.corrcoef(draws) - torch.eye(len(names))
    assert correlation.abs().max() < 0.04  # over five standard errors of 1 / sqrt(20,000)


def test_it_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.randn(3, generator=generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)
