"""Which recipes can be trained with the network sharded over a trial's workers, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from prune_search.recipe import axes
from prune_search.recipe.blocks import SameFlops, Score
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


class MaskingRule(Protocol):
    """What says how a mask is found: a recipe's mask block, or a call of the library."""

    @property
    def criterion(self) -> Named: ...

    @property
    def scope(self) -> Named: ...

    @property
    def granularity(self) -> Named: ...

    @property
    def score(self) -> Score: ...

    @property
    def control(self) -> Named | None: ...


def _no(path: str, value: str, why: str, asked: str = ASKED) -> Problem:
    return Problem(path, f"{value} does not go with {asked}: {why}", form=False)


def _others(axis: AnyAxis) -> str:
    """The values of an axis that go with shards."""
    facts = {name: axis[name].facts for name in axis}
    return ", ".join(sorted(name for name, one in facts.items() if _on_shards(one)))


def _on_shards(facts: Facts) -> bool:
    return facts.on_shards if isinstance(facts, Criterion) else bool(getattr(facts, "sharded", False))


def mask_problems(rule: MaskingRule, asked: str) -> Iterator[Problem]:
    """Everything of how a mask is found that cannot be done on shards, a sentence each.

    Args:
        rule: how it is found.
        asked: what the network is, for messages.
    """
    criterion = rule.criterion.entry(axes.CRITERIA).facts
    granularity, scope = rule.granularity.entry(axes.GRANULARITIES).facts, rule.scope.entry(axes.SCOPES).facts
    if not criterion.on_shards:
        why = "its scores need whole layers; these go with it: " + _others(axes.CRITERIA)
        yield _no("mask.criterion", rule.criterion.name, why, asked)
    if granularity.structured:
        why = "its units span rows, which lie on several workers; weight and n-of-m go with it"
        yield _no("mask.granularity", rule.granularity.name, why, asked)
    elif criterion.trains and granularity.run is not None:
        why = f"{rule.criterion.name} learns a score for each single weight there"
        yield _no("mask.granularity", rule.granularity.name, why, asked)
    if (order := rule.scope.options.get("order")) in ORDERS:
        why = "it scores a layer after those before it were pruned, as a whole"
        yield _no("mask.scope.order", str(order), why, asked)
    elif scope.measured or scope.searches:
        yield _no("mask.scope", rule.scope.name, "it measures the network with single layers pruned", asked)
    if (form := rule.score.normalization.name) != "none":
        yield _no("mask.score.normalization", form, "it looks at the scores of a whole layer", asked)
    if rule.control is not None and not rule.control.entry(axes.CONTROLS).facts.by_layer:
        able = ", ".join(name for name in axes.CONTROLS if axes.CONTROLS[name].facts.by_layer)
        why = f"it looks at all layers or their scores; {able} goes with it"
        yield _no("mask.control", rule.control.name, why, asked)


def _mask(recipe: Recipe) -> Iterator[Problem]:
    mask = recipe.mask
    yield from mask_problems(mask, ASKED)
    if mask.criterion.entry(axes.CRITERIA).facts.trains:
        yield from _optimizer(mask.criterion.options.get("optimizer"), "mask.criterion.optimizer")
    if not mask.sparsity.known:
        yield _no("mask.sparsity", mask.sparsity.form, "how much is kept must be a number before the mask is found")
    if mask.stable is not None:
        yield _no("mask.at", "stable", "it compares masks of the whole network on the way")
    if mask.prepare is not None and not mask.prepare.entry(axes.TRANSFORMS).facts.sharded:
        yield _no("mask.prepare", mask.prepare.name, _single_weights(axes.TRANSFORMS))


def draws_whole(init: Named) -> str:
    """That an initializer draws a network as a whole only, and which ones do not, for messages."""
    able = ", ".join(sorted(name for name in axes.INITS if axes.INITS[name].facts.by_layer))
    return f"train.init {init.name} does not draw layer by layer; these do: {able}"


def _single_weights(axis: AnyAxis) -> str:
    return f"it changes whole layers; these do not and go with it: {_others(axis)}"


def _weights(recipe: Recipe) -> Iterator[Problem]:
    init = recipe.train.init.entry(axes.INITS).facts
    for place, named in enumerate(recipe.transforms):
        if not named.entry(axes.TRANSFORMS).facts.sharded:
            yield _no(f"weights.transform[{place}]", named.name, _single_weights(axes.TRANSFORMS))
        elif named.entry(axes.TRANSFORMS).facts.redraws and not init.by_layer:
            yield _no(f"weights.transform[{place}]", named.name, draws_whole(recipe.train.init))
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
