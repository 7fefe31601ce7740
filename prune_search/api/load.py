"""Loads an exported folder as a network, from whichever of its forms the folder holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api.where import Where, where_given
from prune_search.recipe.argument_types import PATH, PATH_SAID, of_type
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prune_search.exports.folder import Exported

_log = logging.getLogger("prune_search")


@dataclass(frozen=True, eq=False)
class Loaded:
    """An exported network.

    Attributes:
        model: the masked network, with pruned weights at 0, in evaluation mode, on the CPU. If its class is the
            user's own and was not named, and only program.pt2 is available, this is the network of program.pt2.
        recipe: the recipe that produced it.
        masks: one bool tensor per convolution or linear weight.
        metrics: the content of metrics.json.
        compact: the physically smaller network with the same outputs; None if the folder has none (``run --out``), or
            only program.pt2 has it and `load` was not told to trust that.
    """

    model: nn.Module
    recipe: Recipe
    masks: Mapping[str, Tensor]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    compact: nn.Module | None = None

    def network(self) -> nn.Module:
        """The network to deploy: the compact one if there is one, else the masked one."""
        return self.model if self.compact is None else self.compact


def load(folder: str | Path, *, where: Where | None = None, trusted: bool = False) -> Loaded:
    """Load an exported folder as a network. Unless it is `trusted`, this executes nothing in the folder.

    The compact network is read from config.json if that describes it, else from the folder ``huggingface`` if that
    holds it, else from program.pt2. The masked network is read from config.json, or built from the recipe; a
    user's own model must then be named in `where`.

    Args:
        folder: of an export, or of ``run --out``.
        where: data and code of the recipe.
        trusted: also open program.pt2 if nothing else holds the compact network. torch.export.load can run code from
            such a file, so use it only for folders that you made yourself or whose author you trust.

    Raises:
        UserError: a file is missing or modified, or the recipe's model or data is unavailable.

    Example:
        >>> network = prune_search.load("best").network()
    """
    from prune_search.compact.config_file import COMPACT, CONFIG_FILE, MASKED, load_network
    from prune_search.exports.folder import load as read_folder

    of_type("folder", folder, PATH, PATH_SAID)
    folder, where = Path(folder), where_given(where)
    exported = read_folder(folder)
    recipe = Recipe.from_canonical(exported.recipe)
    masked: nn.Module | None = None
    small: nn.Module | None = None
    costs = exported.metrics.get("costs")
    costs = costs if isinstance(costs, Mapping) else {}
    if (folder / CONFIG_FILE).exists():
        masked, small = load_network(folder, MASKED), load_network(folder, COMPACT)
    elif costs.get("huggingface"):
        small = _of_hugging_face(folder, costs["huggingface"])
    if small is None and costs.get("program"):
        small = _of_program(folder, costs, trusted)
    if masked is None:
        masked = _built(folder, exported, recipe, where, small)
    return Loaded(masked, recipe, exported.masks, exported.metrics, small)


def _built(folder: Path, exported: Exported, recipe: Recipe, where: Where, small: nn.Module | None) -> nn.Module:
    """The masked network from the recipe; the compact one in its place where the user's own class is not named."""
    from prune_search.recipe.blocks import UserCode
    from prune_search.tasks.experts import close_routes
    from prune_search.trial.data_and_network import build_model
    from prune_search.trial.pretrained import load_weights

    try:
        model = build_model(recipe, where.code(), where.data_folder(), exported.metrics.get("inputs"))
    except UserError:
        if small is None or not isinstance(recipe.task.model, UserCode):
            raise
        _log.warning(
            "%s: the network's own class was not named, so the compact network is used in place of the masked one",
            folder,
        )
        return small
    load_weights(model, exported.weights, str(folder))
    close_routes(model, exported.masks)
    return model.eval()


def _of_hugging_face(folder: Path, told: object) -> nn.Module | None:
    """The compact network of the folder ``huggingface``; None where that holds the whole one."""
    from prune_search.exports.hugging_face import opened

    return None if not isinstance(told, Mapping) or told.get("whole") else opened(folder, str(told.get("class")))


def _of_program(folder: Path, costs: Mapping[str, Any], trusted: bool) -> nn.Module | None:
    """The compact network of program.pt2; None where that is not trusted."""
    from prune_search.compact.file_names import PROGRAM_FILE
    from prune_search.exports.program import opened

    path = folder / PROGRAM_FILE
    if not trusted:
        text = "%s holds the compact network and was not opened: pass trusted=True if you trust whoever made it"
        _log.warning(text, path)
        return None
    names = costs.get("program_inputs")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError([Problem("costs.program_inputs", "does not name the inputs of program.pt2", str(folder))])
    return opened(path, names)
