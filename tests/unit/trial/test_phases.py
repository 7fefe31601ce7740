"""The transforms of a round: what each is given, where one that trains begins, and what stays removed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import torch

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.weights.context import TransformContext
from prune_search.recipe.axes import OPTIMIZERS, TRANSFORMS
from prune_search.recipe.facts import Transform as TransformFacts
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import prunable_weights
from prune_search.training.phase import Phase
from prune_search.training.segment import MODEL, model_tensors
from prune_search.training.state_store import StateStore, Steps
from prune_search.trial.addresses import Vertex
from prune_search.trial.phases import RoundTransforms, Transform, model_only, segment_of
from prune_search.trial.setup import TrialSetup

SetupOf = Callable[[Mapping[str, Any]], TrialSetup]
NAME, TRAINS = "doubles-here", "trains-here"
PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
GIVEN: list[TransformContext] = []


@pytest.fixture(autouse=True)
def doubling() -> Iterator[None]:
    """A transform that doubles the weights, and one that trains; both keep what they were given."""

    @TRANSFORMS.register(NAME, summary="under test")
    def doubles(setting: TransformContext) -> None:
        """Twice the weights."""
        GIVEN.append(setting)
        with torch.no_grad():
            for name in setting.layers:
                setting.network.model.get_parameter(name).mul_(2)

    @TRANSFORMS.register(TRAINS, summary="under test", facts=TransformFacts(trains=True))
    def trains(setting: TransformContext) -> Phase:
        """Three steps of plain descent."""
        GIVEN.append(setting)
        optimizer = Named.of(OPTIMIZERS, {"name": "sgd", "lr": 0.1, **PLAIN})
        return Phase(3, optimizer, lambda step: 0.1, lambda: ())

    yield
    GIVEN.clear()
    TRANSFORMS.withdraw(NAME)
    TRANSFORMS.withdraw(TRAINS)


@pytest.fixture
def setup(setup_of: SetupOf) -> TrialSetup:
    task = {"model": {"name": "mlp", "hidden": [4]}}
    return setup_of({"preset": "snip", "task": task, "train": {"steps": "6it", "batch": 50}})


def transforms(setup: TrialSetup, removed: MaskSet | None = None) -> RoundTransforms:
    rule = MaskRule.of(setup.recipe.mask)
    layers = tuple(prunable_weights(setup.model))
    before = None if removed is None else (lambda: removed)
    return RoundTransforms(setup, StateStore(None, Steps()), rule, lambda: layers, 2, before)


def test_a_transform_without_steps_changes_the_weights_that_it_is_given(setup: TrialSetup) -> None:
    masks = MaskSet({name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable_weights(setup.model).items()})
    given = Transform(Named.of(TRANSFORMS, NAME), "weights.transform.0", Decimal("0.5"))
    found = transforms(setup).changed(given, lambda: setup.start, lambda: masks)
    for name in masks:
        assert torch.equal(found[MODEL + name], 2 * setup.start[MODEL + name])
    (context,) = GIVEN
    assert (context.masks, context.penalty, context.words) == (masks, Decimal("0.5"), ("weights.transform.0", 2))
    assert context.seed == setup.recipe.seed


def test_one_that_trains_begins_with_fresh_buffers_and_what_was_removed_stays_removed(setup: TrialSetup) -> None:
    name = next(iter(prunable_weights(setup.model)))
    removed = {key: torch.ones_like(w, dtype=torch.bool) for key, w in prunable_weights(setup.model).items()}
    removed[name].view(-1)[::2] = False
    state = {**setup.start, "optimizer/buffer": torch.ones(1)}
    item = Transform(Named.of(TRANSFORMS, TRAINS), "mask.prepare")
    vertex = Vertex("prepare.2", "ab" * 32, 3, 3)
    made = transforms(setup, MaskSet(removed)).segment("prepare", vertex, item, lambda: state, lambda: None)
    assert model_only(state).keys() == setup.start.keys()
    end = made.at(3).tensors
    assert not bool(end[MODEL + name].reshape(-1)[::2].any())
    assert not torch.equal(end[MODEL + name].reshape(-1)[1::2], setup.start[MODEL + name].reshape(-1)[1::2])
    assert made.store.steps.trained == 3
    (context,) = GIVEN
    assert (context.masks, context.words) == (None, ("mask.prepare", 2))


def test_a_segment_is_stored_at_the_steps_that_are_asked_for(setup: TrialSetup) -> None:
    def course() -> Any:
        raise AssertionError("nothing is trained before a state is asked for")

    how = (lambda: model_tensors(setup.model), course)
    made = segment_of(setup, StateStore(None, Steps()), "train", Vertex("train", "cd" * 32, 6, 4), how, {2, 4})
    assert (made.name, made.address, made.total, made.place) == ("train", "cd" * 32, 6, "train")
