"""The network of a trial with its weights of step 0: built whole, or divided among workers and then drawn by layer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prune_search.pruning.mask.selection import unknown_layers
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.tasks.data import DataSet
from prune_search.tasks.layers import check_network, other_names, prunable_weights
from prune_search.tasks.network import forward_digest, network_digest
from prune_search.tasks.shards import is_shard
from prune_search.tasks.task_checks import fitted_task
from prune_search.tasks.user import with_inputs_for
from prune_search.tasks.workers import Workers
from prune_search.training.batchnorm_penalty import batchnorm_scales
from prune_search.training.initialized import Initialized, initialize
from prune_search.trial.before_sharding import BeforeSharding
from prune_search.trial.data_and_network import NetworkFactory, TrialData
from prune_search.trial.pretrained import check_nothing_is_lost, load_given
from prune_search.trial.split_start import SplitStart

_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class StartedNetwork:
    """A network at w(0), or at w(K) with ``train.from``.

    Attributes:
        model: whole on the CPU, or sharded on its device.
        source: digest of a user's factory; empty of a registered network.
        data: of the trial, as the network takes them.
        digest: of its weights and buffers.
        forward: digest of its forward code.
        initialized: what the initializer found; None of one that finds nothing.
        before: what was found out before it was sharded; None of a whole one.
    """

    model: nn.Module
    source: str
    data: TrialData
    digest: str
    forward: str
    initialized: Initialized | None = None
    before: BeforeSharding | None = None


def start_whole(recipe: Recipe, factory: NetworkFactory, data: TrialData, folder: Path | None) -> StartedNetwork:
    """Build the network, and draw or read all of its weights.

    Args:
        recipe: of the trial.
        factory: of its network.
        data: of the trial.
        folder: of the recipe file, which ``train.from`` can be relative to.

    Raises:
        UserError: network, recipe and data do not go together.
    """
    model, source = factory.build()
    check_network(model, "task.model")
    if recipe.train.start is None:
        about, another = (data.shape, data.classes), recipe.seed + 1
        check_nothing_is_lost(recipe.task, recipe.train.init, model, source, about, lambda: factory.build(another)[0])
    initialized = _drawn_or_read(recipe, model, data, folder)
    _check_recipe(recipe, model)
    digest, forward = network_digest(model), forward_digest(model)
    return StartedNetwork(model, source, fitted_to(model, data), digest, forward, initialized)


def start_divided(
    recipe: Recipe, split: SplitStart, device: torch.device, folder: Path | None, workers: Workers
) -> StartedNetwork:
    """Divide a network that has no values yet, and draw or read the weights of one layer after the other.

    Args:
        recipe: of the trial.
        split: the network, and what was found out of it.
        device: where each worker's part comes to lie.
        folder: of the recipe file, which ``train.from`` can be relative to.
        workers: that divide it; all of them call this.

    Raises:
        UserError: network, recipe and data do not go together.
    """
    model, data = split.model, split.data
    _check_recipe(recipe, model)
    forward = forward_digest(model)
    split.divide(device, lambda parts: _drawn_or_read(recipe, parts, data, folder))
    # Of arrays, whether they are integers was looked at before.
    fitted = data if isinstance(data, DataSet) else fitted_to(model, data)
    workers.same([one for one in model.state_dict().values() if not is_shard(one)])
    return StartedNetwork(model, split.source, fitted, network_digest(model), forward, before=split.before)


def fitted_to(model: nn.Module, data: TrialData) -> TrialData:
    """The data as a network takes them, and the network so that it takes them.

    Args:
        model: on the CPU; made to take the batches of a task.
        data: of arrays: integers stay integers where it runs on them; of a task: it gets its loss and metrics.

    Raises:
        UserError: they do not go together.
    """
    if isinstance(data, DataSet):
        return with_inputs_for(model, data)
    return fitted_task(data, model)


def _check_recipe(recipe: Recipe, model: nn.Module) -> None:
    """Refuse what the recipe says of layers that the network has not."""
    if unknown := unknown_layers(recipe.mask.scope, prunable_weights(model), other_names(model)):
        raise UserError(unknown)
    if recipe.train.batchnorm_l1 and not batchnorm_scales(model):
        raise UserError([Problem("train.batchnorm_l1", "this network has no batch norm with a scale to penalize")])


def _drawn_or_read(recipe: Recipe, model: nn.Module, data: TrialData, folder: Path | None) -> Initialized | None:
    """Give a network the weights of step 0: drawn, or given by ``train.from``; and what the initializer found."""
    start = recipe.train.start
    if start is None:
        return initialize(recipe.train.init, model, recipe.seed, lambda count: _inputs_for(model, data, count))
    if not recipe.train.from_model:
        load_given(model, start, folder)
    if data.held_out:
        _log.warning(
            "train.from: the validation examples were taken from the training set here, and the given weights may have "
            "been trained on them: val/ figures may be too good. Give the data a validation set of its own to be sure"
        )
    return None


def _inputs_for(model: nn.Module, data: TrialData, count: int) -> Any:
    """The inputs of the first training examples, as the network takes them."""
    shown = with_inputs_for(model, data) if isinstance(data, DataSet) else data
    return shown.train.first(count)
