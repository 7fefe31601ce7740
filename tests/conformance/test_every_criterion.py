"""Every criterion: what its scores are, against a slow definition of its own, and that it disturbs nothing."""

from __future__ import annotations

import copy
import math
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.finder import find_mask
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.reductions import REDUCTIONS, reduction, reduction_name
from prune_search.pruning.mask.rule import MaskRule, ScoringData
from prune_search.pruning.mask.scoring import Batches, Scoring
from prune_search.pruning.mask.units import Grouping
from prune_search.recipe.axes import CRITERIA, GRANULARITIES
from prune_search.recipe.blocks import Mask
from prune_search.recipe.fields import Flag, Reading, Value, Word
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import output_layer, prunable_weights

CLASSES = 3
# A criterion that trains needs a whole trial; it is run in one with every other.
NAMES = [name for name, entry in CRITERIA.items() if not entry.facts.trains]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, CLASSES))


MODELS = {"perceptron": perceptron, "convolutional": convolutional, "dropout": with_dropout}


def models_for(name: str, *models: str) -> list[str]:
    """The networks of those that a criterion can score."""
    return [model for model in models or MODELS if model == "convolutional" or not CRITERIA[name].facts.needs_batchnorm]


def variants(name: str) -> list[Any]:
    """The criterion by its bare name, and with every other word or flag of its options."""
    others: list[Any] = [name]
    for key, option in CRITERIA[name].options.items():
        words = option.field.words if isinstance(option.field, Word) else ()
        values = (*words, *((not option.default,) if isinstance(option.field, Flag) else ()))
        others += [{"name": name, key: value} for value in values if value != option.default]
    return others


CASES = [(name, model) for name in NAMES for model in models_for(name)]
VARIANTS = [(written, model) for name in NAMES for written in variants(name) for model in models_for(name)]


def model_named(name: str) -> nn.Module:
    torch.manual_seed(4)
    model = MODELS[name]()
    assert sum(weight.numel() for weight in prunable_weights(model).values()) <= 200
    return model


def batches(iteration: int = 1) -> Batches:
    source = torch.Generator().manual_seed(iteration)
    return [
        (torch.randn(6, 1, 4, 4, generator=source), torch.randint(CLASSES, (6,), generator=source)) for _ in range(2)
    ]


def no_batches(iteration: int = 1) -> Batches:
    raise AssertionError("data were asked for")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def named(raw: Any) -> Named:
    told = Reading()
    written = Value(CRITERIA).read(raw, "mask.criterion", told)
    assert told.problems == []
    return Named.of(CRITERIA, written)


def scoring(model: nn.Module, masked: bool, name: str) -> Scoring:
    """The network at w ⊙ c, a third of the weights being masked or none."""
    weights = prunable_weights(model)
    dense = {key: weight.detach().clone() for key, weight in weights.items()}
    if masked:
        source = torch.Generator().manual_seed(8)
        MaskSet({key: torch.rand(w.shape, generator=source) < 0.66 for key, w in weights.items()}).apply(model)
    shown = batches if CRITERIA[name].facts.needs_data else no_batches
    split = Grouping(Named.of(GRANULARITIES, granularity(name))).split
    example = torch.zeros(1, 1, 4, 4)
    return Scoring(model, weights, dense, lambda: shown(), cross_entropy, 3, (2, 1), lambda: example, split=split)


def granularity(name: str) -> str:
    """Single weights, or the first that the criterion goes with."""
    allowed = CRITERIA[name].facts.granularities
    return str(allowed[0]) if allowed else "weight"


def scores(asked: Named, given: Scoring) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found: dict[str, Tensor] = CRITERIA[asked.name].make(given, **asked.options)
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "model"), CASES)
def test_scores_are_finite_and_shaped_like_the_weights(name: str, model: str, masked: bool) -> None:
    given = scoring(model_named(model), masked, name)
    found = scores(named(name), given)
    assert list(found) == list(given.weights)
    for key, score in found.items():
        assert score.shape == given.weights[key].shape
        assert bool(torch.isfinite(score).all())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("written", "model"), [case for case in VARIANTS if case[1] != "dropout"])
def test_scores_are_those_of_an_independent_slow_definition(written: Any, model: str, mode: str, masked: bool) -> None:
    asked = named(written)
    oracle = CRITERIA[asked.name].facts.oracle
    assert oracle is not None, "every criterion declares one"
    first, second = model_named(model).train(mode == "train"), model_named(model).train(mode == "train")
    given = scoring(first, masked, asked.name)
    before = {key: weight.detach().clone() for key, weight in given.weights.items()}
    fast = scores(asked, given)
    assert all(torch.equal(before[key], given.weights[key]) for key in before)
    slow = oracle(scoring(second, masked, asked.name), **asked.options)
    # What a definition tells of signed terms, the score takes the size of.
    sizes = reduction_name(CRITERIA[asked.name].facts, asked.options) in ("sum-abs", "abs-sum")
    for key, terms in fast.items():
        score = reduction(asked)(given.split(terms)).double()
        wanted = torch.as_tensor(slow[key], dtype=torch.float64)
        wanted = wanted.abs() if sizes else wanted
        assert score.shape == wanted.shape
        scale = max(float(wanted.abs().max()), 1e-12)
        assert float((score - wanted).abs().max()) <= 1e-4 * scale


@pytest.mark.parametrize("name", NAMES)
def test_the_group_s_score_is_one_of_the_known_reductions(name: str) -> None:
    for written in variants(name):
        assert reduction_name(CRITERIA[name].facts, named(written).options) in REDUCTIONS
    assert CRITERIA[name].facts.kind in ("static", "scheduled", "sampled", "latent")


def score_block(mode: str) -> dict[str, Any]:
    plain = {"iterations": 2, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy"}
    return {**plain, "mode": mode}


def masks(name: str, model: nn.Module, mode: str, seed: int = 3) -> MaskSet:
    block = {
        "at": "end",
        "criterion": named(name).written,
        "scope": "global",
        "granularity": granularity(name),
        "score": score_block(mode),
    }
    last = output_layer(model, batches()[0][0])
    return find_mask(model, MaskRule.of(Mask.of(block)), Decimal("0.5"), None, ScoringData(batches, last, seed, 1))


def kept_of_half(name: str, found: MaskSet) -> int:
    """⌊N/2+½⌋ of all units together, or of each row where the criterion compares rows."""
    sizes = [units for units, _ in found.units.values()]
    if CRITERIA[name].facts.keeps_all:
        return sum(sizes)
    if CRITERIA[name].facts.compared == "row":
        return sum(mask.shape[0] * math.floor(mask[0].numel() / 2 + 0.5) for mask in found.values())
    return math.floor(sum(sizes) / 2 + 0.5)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "model"), CASES)
def test_a_search_for_a_mask_leaves_the_network_as_it_was(name: str, model: str, mode: str) -> None:
    net = model_named(model)
    net.eval()
    list(net.modules())[-1].train()
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    masks(name, net, mode)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(("name", "model"), CASES)
def test_a_mask_depends_on_the_seed_and_on_no_other_draw(name: str, model: str) -> None:
    torch.manual_seed(1)
    first = masks(name, model_named(model), "train")
    torch.manual_seed(2)
    again = masks(name, model_named(model), "train")
    assert first.sha256 == again.sha256
    assert first.receipt().units_kept == kept_of_half(name, first)
