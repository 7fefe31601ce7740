"""Checks of criteria: their scores, that scoring changes nothing else, and that masks have exact counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

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
from prune_search.recipe.fields import Flag, Word
from prune_search.recipe.recipe import Named
from prune_search.tasks.network import output_layer, prunable_weights
from prune_search.testing.checked import Checked, read
from prune_search.testing.entries import check_entry
from prune_search.testing.networks import HAVING, NETWORKS, STRUCTURED, batches, cross_entropy, network_named
from prune_search.testing.trials import run_with_criterion

KINDS = ("static", "scheduled", "sampled", "latent")
# Of what a slow definition comes to, relative to its largest score.
TOLERANCE = 1e-4


def check_criterion(name: str, thoroughly: bool = False, **options: object) -> None:
    """Scores that are finite and shaped like the weights, that leave the network alone, and a mask of exact counts.

    Where the criterion declares an `oracle`, its scores are those of this slow definition.

    Args:
        name: of the criterion.
        thoroughly: also with every word and flag of its options, on every network, in both modes and masked or not.
        options: that it is checked with.

    Raises:
        AssertionError: something does not hold.
    """
    one = check_entry(CRITERIA, name, options)
    facts = CRITERIA[name].facts
    one.require(facts.kind in KINDS, f"its kind {facts.kind!r} is not one of {', '.join(KINDS)}")
    # One that trains needs a whole trial.
    if not facts.trains:
        for written in variants(one):
            found = reduction_name(facts, read(CRITERIA, written).options)
            one.require(found in REDUCTIONS, f"its reduction {found!r} is not one of {', '.join(REDUCTIONS)}")
        for network in networks_for(name):
            for masked in (False, True):
                _check_scores(one, network, masked)
            for mode in ("train", "eval"):
                _check_that_the_network_is_left(one, network, mode)
            _check_the_mask(one, network)
            _check_parts(one, network)
        for asked, network, mode, masked in _compared(one, thoroughly):
            _check_definition(one, asked, network, mode, masked)
    run_with_criterion(one)


def networks_for(name: str) -> list[str]:
    """The networks that a criterion can score."""
    if GRANULARITIES[_granularity(name)].facts.default_model:
        return [HAVING.get(_granularity(name), next(iter(STRUCTURED)))]
    return [network for network in NETWORKS if network == "convolutional" or not CRITERIA[name].facts.needs_batchnorm]


def variants(one: Checked) -> list[Any]:
    """The criterion as it is checked, and with every other word or flag of its options."""
    others: list[Any] = [one.named.written]
    given = one.named.options
    for key, option in CRITERIA[one.name].options.items():
        words = option.field.words if isinstance(option.field, Word) else ()
        values = (*words, *((not option.default,) if isinstance(option.field, Flag) else ()))
        others += [{"name": one.name, **given, key: value} for value in values if value != given.get(key)]
    return others


def _compared(one: Checked, thoroughly: bool) -> Iterator[tuple[Named, str, str, bool]]:
    """What is compared with the slow definition: value, network, mode, and whether a third of it is masked."""
    if CRITERIA[one.name].facts.oracle is None:
        return
    if not thoroughly:
        networks = networks_for(one.name)
        yield one.named, "convolutional" if "convolutional" in networks else networks[0], "train", True
        return
    for written in variants(one):
        for network in (network for network in networks_for(one.name) if network != "dropout"):
            for mode in ("train", "eval"):
                for masked in (False, True):
                    yield read(CRITERIA, written), network, mode, masked


def _no_batches() -> Batches:
    raise AssertionError("it reads data but does not declare needs_data=True")


def _granularity(name: str) -> str:
    """Single weights, or the first that the criterion goes with."""
    allowed = CRITERIA[name].facts.granularities
    return str(allowed[0]) if allowed else "weight"


def scoring(model: nn.Module, masked: bool, name: str) -> Scoring:
    """The network at w ⊙ c, a third of the weights being masked or none."""
    weights = prunable_weights(model)
    dense = {key: weight.detach().clone() for key, weight in weights.items()}
    if masked:
        source = torch.Generator().manual_seed(8)
        MaskSet({key: torch.rand(w.shape, generator=source) < 0.66 for key, w in weights.items()}).apply(model)
    shown = batches if CRITERIA[name].facts.needs_data else _no_batches
    split = Grouping(read(GRANULARITIES, _granularity(name))).split
    example = torch.zeros(1, 1, 4, 4)
    return Scoring(model, weights, dense, shown, cross_entropy, 3, (2, 1), lambda: example, split=split)


def scores(asked: Named, given: Scoring) -> dict[str, Tensor]:
    """A score per weight, by the weight's name."""
    torch.manual_seed(0)
    return CRITERIA[asked.name].make(given, **asked.options)


def _check_scores(one: Checked, network: str, masked: bool) -> None:
    given = scoring(network_named(network), masked, one.name)
    before = {key: weight.detach().clone() for key, weight in given.weights.items()}
    found = scores(one.named, given)
    left = all(torch.equal(before[key], weight) for key, weight in given.weights.items())
    one.require(left, f"scoring the network {network!r} changes its weights")
    names = list(given.weights)
    one.require(list(found) == names, f"it scores {list(found)}, but the network's weights are {names}")
    for key, score in found.items():
        shapes = f"{list(score.shape)}, and the weight {list(given.weights[key].shape)}"
        one.require(score.shape == given.weights[key].shape, f"the scores of {key} have the shape {shapes}")
        one.require(torch.isfinite(score).all(), f"a score of {key} is not finite on the network {network!r}")


def _check_parts(one: Checked, network: str) -> None:
    """Where each worker may score its own rows of a weight, those of the others make no difference."""
    if not CRITERIA[one.name].facts.sharded:
        return
    given, other = (scoring(network_named(network), True, one.name) for _ in range(2))
    for weight in other.dense.values():
        weight[1:] = 2 * weight[1:] + 1
    found, changed, reduce = scores(one.named, given), scores(one.named, other), reduction(one.named)
    for key, score in found.items():
        first = reduce(given.split(score[:1]))
        alike = torch.equal(first, reduce(given.split(score))[: len(first)])
        alike = alike and torch.equal(first, reduce(given.split(changed[key][:1])))
        text = (
            f"it declares sharded=True, and the first row of {key} gets other scores when it is scored with other rows"
        )
        one.require(alike, text)


def _check_definition(one: Checked, asked: Named, network: str, mode: str, masked: bool) -> None:
    """The scores are those of the independent, slow definition that the criterion declares."""
    facts = CRITERIA[asked.name].facts
    assert facts.oracle is not None
    first, second = network_named(network).train(mode == "train"), network_named(network).train(mode == "train")
    given = scoring(first, masked, asked.name)
    before = {key: weight.detach().clone() for key, weight in given.weights.items()}
    fast = scores(asked, given)
    left = all(torch.equal(before[key], weight) for key, weight in given.weights.items())
    one.require(left, f"scoring the network {network!r} as {asked.written!r} changes its weights")
    slow = facts.oracle(scoring(second, masked, asked.name), **asked.options)
    # What a definition tells of signed terms, the score takes the size of.
    reduce = reduction_name(facts, asked.options)
    for key, terms in fast.items():
        score = reduction(asked)(given.split(terms)).double()
        wanted = torch.as_tensor(slow[key], dtype=torch.float64)
        if reduce in ("sum-abs", "abs-sum", "sum-square", "square-sum"):
            wanted = wanted.square() if "square" in reduce else wanted.abs()
        one.require(score.shape == wanted.shape, f"the slow definition gives {key} scores of another shape")
        error = float((score - wanted).abs().max())
        scale = max(float(wanted.abs().max()), 1e-12)
        where = f"{key} of the network {network!r} in mode {mode} as {asked.written!r}"
        one.require(error <= TOLERANCE * scale, f"{where} is {error / scale:.1e} off the slow definition")


def masks(one: Checked, model: nn.Module, mode: str, seed: int = 3) -> MaskSet:
    """The mask of half of the units."""
    plain = {"iterations": 2, "path": "exponential", "nested": True, "batches": 1, "loss": "cross-entropy"}
    block = {
        "at": "end",
        "criterion": one.named.written,
        "scope": "global",
        "granularity": {"name": _granularity(one.name), **read(GRANULARITIES, _granularity(one.name)).options},
        "score": {**plain, "mode": mode},
    }
    last = output_layer(model, batches()[0][0])
    return find_mask(model, MaskRule.of(Mask.of(block)), Decimal("0.5"), None, ScoringData(batches, last, seed, 1))


def _kept_of_half(one: Checked, found: MaskSet) -> int:
    """⌊N/2+½⌋ of all units together, or of each row or layer where the criterion compares those."""
    sizes = [units for units, _ in found.units.values()]
    facts = one.named.entry(CRITERIA).facts
    if facts.keeps_all:
        return sum(sizes)
    if facts.competition(**one.named.options) == "layer":
        return sum(math.floor(size / 2 + 0.5) for size in sizes)
    if facts.competition(**one.named.options) == "row":
        return sum(mask.shape[0] * math.floor(mask[0].numel() / 2 + 0.5) for mask in found.values())
    return math.floor(sum(sizes) / 2 + 0.5)


def _check_that_the_network_is_left(one: Checked, network: str, mode: str) -> None:
    """A search for a mask leaves weights, buffers, modes and gradients as they were."""
    model = network_named(network)
    model.eval()
    list(model.modules())[-1].train()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    masks(one, model, mode)
    changed = [key for key, value in model.state_dict().items() if not torch.equal(before[key], value)]
    one.require(not changed, f"finding a mask changes {', '.join(changed)} of the network {network!r}")
    kept = [module.training for module in model.modules()] == modes
    one.require(kept, f"finding a mask leaves modules of the network {network!r} in another mode")
    bare = all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    one.require(bare, f"finding a mask leaves gradients in the network {network!r}, or parameters without them")


def _check_the_mask(one: Checked, network: str) -> None:
    """It depends on the seed and on no other draw, and its count is exact."""
    torch.manual_seed(1)
    first = masks(one, network_named(network), "train")
    torch.manual_seed(2)
    again = masks(one, network_named(network), "train")
    one.require(first.sha256 == again.sha256, f"the mask of the network {network!r} differs the second time")
    kept, wanted = first.receipt().units_kept, _kept_of_half(one, first)
    one.require(kept == wanted, f"half of the network {network!r} are {wanted} units, and the mask keeps {kept}")
