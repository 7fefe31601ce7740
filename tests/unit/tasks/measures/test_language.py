"""Metrics of language models against the mean surprise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from prune_search.recipe.axes import TASK_METRICS
from prune_search.tasks.tallies import Seen

SOURCE = torch.Generator().manual_seed(0)
SCORES, TOKENS = torch.randn(6, 5, 8, generator=SOURCE), torch.randint(8, (6, 5), generator=SOURCE)


def value(name: str, target: str, tokens: torch.Tensor) -> float:
    tally: Any = TASK_METRICS[name].make(target, 0)
    for start in (0, 4):
        some = SCORES[start : start + 4], tokens[start : start + 4]
        tally.update(Seen(some[0], some, some[1], len(some[0]), 0.0))
    return float(tally.value())


def test_perplexity_and_bits_are_of_the_mean_surprise_of_the_next_token() -> None:
    surprise = [-float(SCORES[b, t].log_softmax(0)[TOKENS[b, t + 1]]) for b in range(6) for t in range(4)]
    nats = sum(surprise) / len(surprise)
    assert value("perplexity", "tokens", TOKENS) == pytest.approx(math.exp(nats))
    assert value("bits-per-byte", "tokens", TOKENS) == pytest.approx(nats / math.log(2))


def test_ignored_tokens_do_not_count_and_targets_of_their_own_are_not_shifted() -> None:
    tokens = TOKENS.clone()
    tokens[1:, 2:] = -100
    kept = [(b, t) for b in range(6) for t in range(5) if int(tokens[b, t]) != -100]
    nats = sum(-float(SCORES[b, t].log_softmax(0)[tokens[b, t]]) for b, t in kept) / len(kept)
    assert value("perplexity", "classes", tokens) == pytest.approx(math.exp(nats))


def test_a_hopeless_network_is_infinitely_perplexed() -> None:
    tally: Any = TASK_METRICS["perplexity"].make("classes", 0)
    outputs, target = torch.tensor([[0.0, 2000.0]]), torch.tensor([0])
    tally.update(Seen(outputs, (outputs, target), target, 1, 0.0))
    assert tally.value() == math.inf
