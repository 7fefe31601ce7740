"""Which recipes can be trained with the network sharded over a trial's workers, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prune_search.recipe import axes
from prune_search.recipe.blocks import SameFlops
from prune_search.recipe.facts import Criterion, Facts
from prune_search.recipe.named import Named
from prune_search.recipe.problems import Problem
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.registry import AnyAxis

ASKED = "search.sharded: true"
# How weights that grow begin where no other weight is looked at.
ZEROS = "zeros"
# Of a scope: how its layers can be taken one after the other.
ORDERS = ("sequential", "blocks")


def sharding_problems(recipe: Recipe) -> list[Problem]:
    """Everything of a recipe that cannot be done on shards of a network, a sentence each; nothing where all can be.

    Args:
        recipe: canonical.
    """
    return [*_mask(recipe), *_weights(recipe), *_training(recipe), *_retraining(recipe)]


def _no(path: str, value: str, why: str) -> Problem:
    return Problem(path, f"{value} does not go with {ASKED}: {why}", form=False)


def _others(axis: AnyAxis) -> str:
    """The values of an axis that go with shards."""
    facts = {name: axis[name].facts for name in axis}
    return ", ".join(sorted(name for name, one in facts.items() if _on_shards(one)))


def _on_shards(facts: Facts) -> bool:
    return facts.on_shards if isinstance(facts, Criterion) else bool(getattr(facts, "sharded", False))


def _mask(recipe: Recipe) -> Iterator[Problem]:
    mask = recipe.mask
    criterion = mask.criterion.entry(axes.CRITERIA).facts
    granularity, scope = mask.granularity.entry(axes.GRANULARITIES).facts, mask.scope.entry(axes.SCOPES).facts
    if not criterion.on_shards:
        why = "its scores need whole layers; these go with it: " + _others(axes.CRITERIA)
        yield _no("mask.criterion", mask.criterion.name, why)
    if granularity.structured:
        why = "its units span rows, which lie on several workers; weight and n-of-m go with it"
        yield _no("mask.granularity", mask.granularity.name, why)
    elif criterion.trains and granularity.run is not None:
        why = f"{mask.criterion.name} learns a score for each single weight there"
        yield _no("mask.granularity", mask.granularity.name, why)
    if criterion.trains:
        yield from _optimizer(mask.criterion.options.get("optimizer"), "mask.criterion.optimizer")
    if (order := mask.scope.options.get("order")) in ORDERS:
        yield _no("mask.scope.order", str(order), "it scores a layer after those before it were pruned, as a whole")
    elif scope.measured or scope.searches:
        yield _no("mask.scope", mask.scope.name, "it measures the network with single layers pruned")
    if mask.score.normalization.name != "none":
        yield _no("mask.score.normalization", mask.score.normalization.name, "it looks at the scores of a whole layer")
    if not mask.sparsity.known:
        yield _no("mask.sparsity", mask.sparsity.form, "how much is kept must be a number before the mask is found")
    if mask.control is not None and not mask.control.entry(axes.CONTROLS).facts.by_layer:
        able = ", ".join(name for name in axes.CONTROLS if axes.CONTROLS[name].facts.by_layer)
        yield _no("mask.control", mask.control.name, f"it looks at all layers or their scores; {able} goes with it")
    if mask.stable is not None:
        yield _no("mask.at", "stable", "it compares masks of the whole network on the way")
    if mask.prepare is not None and not mask.prepare.entry(axes.TRANSFORMS).facts.sharded:
        yield _no("mask.prepare", mask.prepare.name, _single_weights(axes.TRANSFORMS))


def _single_weights(axis: AnyAxis) -> str:
    return f"it changes whole layers; these change single weights and go with it: {_others(axis)}"


def _weights(recipe: Recipe) -> Iterator[Problem]:
    for place, named in enumerate(recipe.transforms):
        if not named.entry(axes.TRANSFORMS).facts.sharded:
            yield _no(f"weights.transform[{place}]", named.name, _single_weights(axes.TRANSFORMS))
        else:
            yield from _optimizer(named.options.get("optimizer"), f"weights.transform[{place}].optimizer")
    if recipe.mask.prepare is not None:
        yield from _optimizer(recipe.mask.prepare.options.get("optimizer"), "mask.prepare.optimizer")


def _optimizer(written: Any, path: str) -> Iterator[Problem]:
    if written is None:
        return
    named = written if isinstance(written, Named) else Named.of(axes.OPTIMIZERS, written)
    if not named.entry(axes.OPTIMIZERS).facts.sharded:
        why = f"its steps need whole weights or draw for them; these go with it: {_others(axes.OPTIMIZERS)}"
        yield _no(path, named.name, why)


def _training(recipe: Recipe) -> Iterator[Problem]:
    train = recipe.train
    yield from _optimizer(train.optimizer, "train.optimizer")
    if train.compile:
        yield _no("train.compile", "true", "compiled code and sharded layers have not been tested together")
    if train.batchnorm_l1:
        yield _no("train.batchnorm_l1", f"{train.batchnorm_l1:g}", "it is added to whole parameters")
    if train.options.layer_decay < 1.0:
        why = "the order of the layers is found by a pass of the whole network"
        yield _no("train.layer_decay", f"{train.options.layer_decay:g}", why)


def _retraining(recipe: Recipe) -> Iterator[Problem]:
    retrain, options = recipe.retrain, recipe.retrain_options
    if retrain is None:
        return
    yield from _optimizer(retrain.optimizer, "retrain.optimizer")
    if retrain.lora is not None:
        yield _no("retrain.lora", f"rank {retrain.lora.rank}", "an update is the product of two whole matrices")
    if options.loss is not None:
        yield _no("retrain.loss", options.loss.name, "the teacher would be a second network, held whole by each worker")
    if "layer_decay" in retrain.written and options.layer_decay < 1.0:
        why = "the order of the layers is found by a pass of the whole network"
        yield _no("retrain.layer_decay", f"{options.layer_decay:g}", why)
    if isinstance(retrain.steps, SameFlops):
        yield _no("retrain.steps", "same_flops_as", "the operations under a mask are counted in a copy of the network")
    dynamics = retrain.dynamics
    if dynamics is None:
        return
    if not dynamics.entry(axes.DYNAMICS).facts.sharded:
        why = f"it moves the masks of whole layers; these go with it: {_others(axes.DYNAMICS)}"
        yield _no("retrain.dynamics", dynamics.name, why)
    elif dynamics.options.get("init", ZEROS) != ZEROS:
        why = f"weights grow from the spread of a whole layer; {ZEROS} goes with it"
        yield _no("retrain.dynamics.init", str(dynamics.options["init"]), why)
    elif (written := dynamics.options.get("criterion")) is not None:
        scored = Named.of(axes.CRITERIA, written)
        if not scored.entry(axes.CRITERIA).facts.on_shards:
            why = "its scores need whole layers; these go with it: " + _others(axes.CRITERIA)
            yield _no("retrain.dynamics.criterion", scored.name, why)
