"""Starts a sharded trial's network without any worker ever holding all of it: divided first, then drawn by layer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.problems import UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.sharding import draws_whole
from prune_search.storage.files import one_line
from prune_search.tasks.batches import Inputs
from prune_search.tasks.blocks import repeated_modules
from prune_search.tasks.data import DataSet
from prune_search.tasks.layers import check_network, listed
from prune_search.tasks.outlines import lost_values, outlined, without_its_values
from prune_search.tasks.shards import shard_network, write_whole
from prune_search.tasks.user import with_inputs_for
from prune_search.tasks.workers import Workers
from prune_search.training.initializers import is_drawn, undrawn
from prune_search.trial.before_sharding import BeforeSharding
from prune_search.trial.data_and_network import NetworkFactory, TrialData
from prune_search.trial.pretrained import why_read_whole

_log = logging.getLogger("prune_search")
# From this share of a network's bytes on, it is said what every worker draws whole all the same.
LARGE = 0.25


@dataclass(frozen=True)
class SplitStart:
    """A network whose layers have no values yet.

    Attributes:
        model: on the CPU and the device meta.
        source: digest of a user's factory.
        before: what is found out of a network before it is divided.
        data: of the trial; of arrays: as the network takes them.
    """

    model: nn.Module
    source: str
    before: BeforeSharding
    data: TrialData

    def divide(self, device: torch.device, start: Callable[[nn.Module], object]) -> None:
        """Divide the network among all workers, which all call this, and give its layers their values.

        Args:
            device: where each worker's part comes to lie.
            start: draws or reads them into the sharded network, one after the other.
        """
        model = self.model
        kept: dict[str, Tensor] = dict(model.named_buffers())
        for name, one in model.named_parameters():
            if not one.is_meta:
                kept[name] = without_its_values(one)
        shard_network(model, repeated_modules(model), device)
        model.to_empty(device=device)
        now: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, whole in kept.items():
            write_whole(now[name], whole)
        kept.clear()
        start(model)


def split_start(
    recipe: Recipe, factory: NetworkFactory, data: TrialData, folder: Path | None, workers: Workers
) -> SplitStart | None:
    """A network that can be divided before it has values; None where it cannot, which is said with the reason.

    The values are those that a single worker draws, bit for bit.

    Args:
        recipe: of the trial.
        factory: of its network.
        data: of the trial.
        folder: of the recipe file.
        workers: that divide it; all of them call this.
    """
    try:
        found = _outline(recipe, factory, data, folder)
    # Whatever a user's code does without values: with them it is done again, and what is wrong then is told.
    except Exception as error:  # noqa: BLE001
        told = "; ".join(p.message for p in error.problems) if isinstance(error, UserError) else one_line(error)
        found = f"without values it cannot be built or passed through: {told}"
    # Each worker finds the same out; but that is better known than hoped.
    able = workers.sums([float(isinstance(found, SplitStart))])[0] == workers.size
    if able and isinstance(found, SplitStart):
        _tell_of_large(found.model)
        return found
    why = found if isinstance(found, str) else "another worker cannot build it without values"
    _log.warning("search.sharded: each worker holds the whole network in its host memory while it starts: %s", why)
    return None


def _outline(recipe: Recipe, factory: NetworkFactory, data: TrialData, folder: Path | None) -> SplitStart | str:
    """The network without values, or why that is not the one with values."""
    init, start = recipe.train.init.entry(axes.INITS).facts, recipe.train.start
    if start is not None and recipe.train.from_model:
        return "train.from model keeps what its factory gives"
    if start is not None and (why := why_read_whole(start, folder)):
        return why
    if start is None and not init.by_layer:
        return draws_whole(recipe.train.init)
    model, source, notes = factory.outline(is_drawn)
    # Read weights replace all parameters, whatever the factory gives them.
    wrong = list(lost_values(model)) if start is not None else [*notes, *lost_values(model), *undrawn(model)]
    if wrong:
        return listed(list(dict.fromkeys(wrong)))
    check_network(model, "task.model", outline=True)
    if isinstance(data, DataSet):
        data = with_inputs_for(outlined(model), data)
    elif isinstance(data.train.first(1), Inputs):
        data.usage.rules.adapted(model)
    return SplitStart(model, source, BeforeSharding.of(outlined(model), recipe, data), data)


def _large(model: nn.Module) -> Iterator[tuple[int, str]]:
    for name, one in model.named_parameters():
        if not one.is_meta:
            yield one.nbytes, name


def _tell_of_large(model: nn.Module) -> None:
    """Say which parameters every worker holds whole while the network starts, where they are much of it."""
    whole = sorted(_large(model), reverse=True)
    size, everything = sum(size for size, _ in whole), sum(one.nbytes for one in model.parameters())
    if size >= LARGE * everything:
        names = listed([name for _, name in whole])
        text = "each worker holds %d of %d MB whole while the network starts, of modules without reset_parameters: %s"
        _log.warning(f"search.sharded: {text}", size // 10**6, everything // 10**6, names)
