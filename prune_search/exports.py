"""Export and load: the best recipe of a search as a folder, and a folder as a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api import Where, run
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.schema import BLOCKS
from prune_search.training.places import local_folder
from prune_search.trial.ranking import Goals
from prune_search.trial.records import SearchRecords, TrialRecords, read_search, search_folder
from prune_search.trust import allowed_code, checked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prune_search.trial.result import Result
    from prune_search.trial.sink import Sink

MOST_SEEDS = 100


def chosen_trial(records: SearchRecords, key: str | None = None) -> TrialRecords:
    """The best trial of a search, or the one with a name or key (or the first six of its digits).

    Raises:
        UserError: nothing has completed, or no completed trial has that key.
    """
    if key is None:
        trial, _ = Goals.of(records.definition["space"]["search"]).best(records.numbered(), records.dense)
        if trial is None:
            raise UserError([Problem("", "no trial has completed yet", records.name)])
        return trial
    for candidate in records.trials.values():
        name = candidate.proposed.data["name"] if candidate.proposed is not None else ""
        if candidate.result and (key == name or (len(key) >= 6 and candidate.result["key"].startswith(key))):
            return candidate
    raise UserError([Problem("--trial", f"no completed trial has the name or key {shown(key)}", records.name)])


def export(
    name: str,
    to: str | Path,
    *,
    trial: str | None = None,
    seeds: int = 1,
    where: Where | None = None,
    sink: Sink | None = None,
) -> Result:
    """Write the best recipe of a search as a folder that anyone can run again.

    The recipe is run once more (what is stored is taken up), now measured on test data too, and written with weights,
    masks, metrics and a card.

    Args:
        name: of the search.
        to: the folder; made, or replaced where it holds the same recipe.
        trial: name or key of another trial than the best.
        seeds: how many seeds the figures are the mean of; the further ones are retrained.
        where: storage; the data folder, where it has moved; model and data of a search that somebody else launched.
        sink: told how it goes.

    Raises:
        UserError: there is no such search or trial, the folder holds something else, or the search is somebody else's
            and names code that is not named here.
        TrialError: a run failed.
    """
    from prune_search.report.export import export_folder

    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError([Problem("--seeds", f"must be from 1 to {MOST_SEEDS} (got {seeds})")])
    to = local_folder(Path(to), "--to")
    where = where or Where()
    storage = where.storage_folder()
    records = read_search(search_folder(storage, name))
    if records.simulated is not None:
        text = f"is simulated ({records.simulated}): there is no network to export; launch it without --simulate"
        raise UserError([Problem("", text, name)])
    chosen = chosen_trial(records, trial)
    definition = checked(records.definition, name)
    code = allowed_code(definition, where, name)
    root = where.data_root or definition["data_root"]
    there = Where(root, storage, code["model"], code["data"], where.device)
    raw = {block: chosen.recipe[block] for block in BLOCKS}
    result = run(raw, where=there, out=to, sink=sink)
    repeats = {}
    for seed in range(1, seeds):
        other = result.recipe.seed + seed
        repeats[other] = run(raw, set={"task.seed": other}, where=there, sink=sink).metrics
    title = chosen.proposed.data["name"] if chosen.proposed is not None else None
    export_folder(result, to, name, trial=title, dense=records.dense, repeats=repeats)
    return result


@dataclass(frozen=True, eq=False)
class Loaded:
    """An exported network.

    Attributes:
        model: with the pruned weights, in evaluation mode, on the CPU.
        recipe: that it came from.
        masks: one bool tensor per convolution or linear weight.
        metrics: metrics.json.
    """

    model: nn.Module
    recipe: Recipe
    masks: Mapping[str, Tensor]
    metrics: Mapping[str, Any]


def load(folder: str | Path, *, where: Where | None = None) -> Loaded:
    """An exported folder as a network. Nothing in it is run; a user's own model must be named in `where`.

    Raises:
        UserError: a file is missing or altered, or the recipe's model or data are not there.

    Example:
        >>> network = prune_search.load("best").model
    """
    from prune_search.report.export import load as read_folder
    from prune_search.trial.bench import build_model, load_weights

    where = where or Where()
    exported = read_folder(folder)
    recipe = Recipe.read({block: exported.recipe[block] for block in BLOCKS})
    model = build_model(recipe, where.code(), where.data_folder())
    load_weights(model, exported.weights, str(folder))
    return Loaded(model.eval(), recipe, exported.masks, exported.metrics)
