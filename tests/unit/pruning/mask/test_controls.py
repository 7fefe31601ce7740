"""Controls: another mask of exactly the same counts."""

from __future__ import annotations

import pytest
import torch

from prune_search.pruning.mask.controls import Chosen
from prune_search.recipe.axes import CONTROLS

SIZES = {"a": 40, "b": 60, "c": 5}


def chosen(seed: int = 0, iterations: int = 1) -> Chosen:
    """A mask as a search leaves it: each iteration removes equally many of each layer.

    With one iteration these are the lowest scores; with several, scores of different iterations cannot be compared.
    """
    source = torch.Generator().manual_seed(7)
    scores = {name: torch.randperm(size, generator=source).float() for name, size in SIZES.items()}
    candidates = {name: torch.rand(size, generator=source) < 0.9 for name, size in SIZES.items()}
    dropped = {}
    for name, score in scores.items():
        places = candidates[name].nonzero().flatten()
        order = score[places].argsort() if iterations == 1 else torch.randperm(len(places), generator=source)
        ascending = places[order]
        dropped[name] = torch.zeros(len(score), dtype=torch.int32)
        dropped[name][ascending] = (1 + torch.arange(len(places)) * (iterations + 1) // len(places)).int()
    kept = {name: times == iterations + 1 for name, times in dropped.items()}
    return Chosen(kept, candidates, dropped, scores, seed)


def counts(masks: dict[str, torch.Tensor]) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_shuffle_keeps_each_layer_s_count_at_other_places() -> None:
    given = chosen()
    found = CONTROLS["shuffle"].make(given)
    assert counts(found) == counts(given.kept)
    assert not torch.equal(found["b"], given.kept["b"])


def test_random_keeps_the_count_in_all_and_not_that_of_each_layer() -> None:
    given = chosen()
    found = CONTROLS["random"].make(given)
    assert {name: len(mask) for name, mask in found.items()} == SIZES
    assert sum(counts(found).values()) == sum(counts(given.kept).values())
    assert counts(found) != counts(given.kept)


@pytest.mark.parametrize("control", ["shuffle", "random"])
def test_a_draw_depends_on_the_seed_and_on_nothing_else(control: str) -> None:
    make = CONTROLS[control].make
    torch.manual_seed(0)
    first = make(chosen())
    torch.manual_seed(1)
    again, other = make(chosen()), make(chosen(seed=1))
    assert all(torch.equal(first[name], again[name]) for name in SIZES)
    assert not torch.equal(first["b"], other["b"])


def test_shuffled_places_are_uniform() -> None:
    """Over many seeds every place of a layer is kept about as often as any other."""
    drawn = torch.stack([CONTROLS["shuffle"].make(chosen(seed))["b"] for seed in range(400)]).float().mean(0)
    share = counts(chosen().kept)["b"] / SIZES["b"]
    assert float((drawn - share).abs().max()) < 0.12


def test_invert_keeps_exactly_the_lowest_scores_of_what_could_be_kept() -> None:
    given = chosen()
    found = CONTROLS["invert"].make(given)
    for name, mask in given.kept.items():
        places = given.candidates[name].nonzero().flatten().tolist()
        lowest = sorted(places, key=lambda place, name=name: float(given.scores[name][place]))  # type: ignore[misc]
        assert found[name].nonzero().flatten().tolist() == sorted(lowest[: int(mask.sum())])


def test_with_iterations_what_was_removed_first_ranks_lowest() -> None:
    given = chosen(iterations=3)
    found = CONTROLS["invert"].make(given)
    assert counts(found) == counts(given.kept)
    for name in SIZES:
        times = given.dropped_at[name][given.candidates[name]]
        taken = given.dropped_at[name][found[name]]
        assert sorted(taken.tolist()) == sorted(times.tolist())[: len(taken)]
        # Of those that the last of these iterations removed, the lowest scores are kept.
        last = given.candidates[name] & (given.dropped_at[name] == int(taken.max()))
        scores = given.scores[name]
        if bool((last & ~found[name]).any()):
            assert float(scores[last & found[name]].max()) < float(scores[last & ~found[name]].min())
