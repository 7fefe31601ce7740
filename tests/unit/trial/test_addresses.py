"""Addresses in the shared tree: two recipes share a segment just where everything that it rests on is the same."""

from __future__ import annotations

from typing import Any

from prune_search.recipe.clock import resolve
from prune_search.recipe.space import read_space
from prune_search.trial.addresses import Branch, branch_of, nominal_branch

EPOCH = 10


def branch(preset: str, **blocks: Any) -> Branch:
    recipe = read_space({"preset": preset, **blocks}, "a test").only_recipe()
    return nominal_branch(recipe, EPOCH)[1]


def addresses(one: Branch) -> list[str]:
    return [vertex.address for vertex in one.vertices()]


def test_another_sparsity_shares_the_training_and_nothing_after() -> None:
    one, other = (branch("magnitude-after-training", mask={"sparsity": share}) for share in (0.5, 0.9))
    assert one.train == other.train
    assert one.rounds[0].mask != other.rounds[0].mask
    assert one.rounds[0].retrain.address != other.rounds[0].retrain.address


def test_more_rounds_of_the_same_share_go_on_where_fewer_ended() -> None:
    mask = {"sparsity": {"per_round": 0.2}}
    two, three = (branch("lottery-ticket", mask=mask, rounds=count) for count in (2, 3))
    assert addresses(three)[: len(addresses(two))] == addresses(two)
    assert [vertex.place for vertex in three.vertices()] == ["train", "retrain.1", "retrain.2", "retrain.3"]


def test_a_seed_a_batch_or_another_root_shares_nothing() -> None:
    recipe = read_space({"preset": "lottery-ticket"}, "a test").only_recipe()
    timeline, first = nominal_branch(recipe, EPOCH)
    others = [
        branch("lottery-ticket", task={"seed": 1}),
        branch("lottery-ticket", train={"batch": 7}),
        branch_of(recipe, timeline, "0" * 64),
    ]
    for other in others:
        assert not set(addresses(first)) & set(addresses(other))


def test_no_segment_is_trained_for_a_network_that_is_masked_before_training() -> None:
    one = branch("snip", train={"steps": "30it"})
    assert (one.train.steps, one.train.needed) == (30, 0)
    assert [(vertex.place, vertex.needed) for vertex in one.vertices()] == [("retrain.1", 30)]


def test_a_stable_mask_is_trained_for_as_far_as_it_can_be_found() -> None:
    recipe = read_space({"preset": "early-bird"}, "a test").only_recipe()
    train = nominal_branch(recipe, EPOCH)[1].train
    assert train.at_most
    assert train.needed == resolve(recipe, EPOCH).trained
