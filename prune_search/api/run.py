"""Runs or verifies a single recipe, for the command line and notebooks."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api.target import Target, check_target, read_target
from prune_search.api.where import Where, where_given
from prune_search.recipe.argument_types import PATH, PATH_SAID, of_type_or_none
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.schema import BLOCKS
from prune_search.storage.places import local_folder

if TYPE_CHECKING:
    from prune_search.trial.callbacks import Sink
    from prune_search.trial.result import Result

# Bytes of a network from which on the memory of a run is given back at once.
LARGE = 64 * 2**20


def run(
    target: Target,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    out: str | Path | None = None,
    sink: Sink | None = None,
    fresh: bool = False,
) -> Result:
    """Run one recipe and measure the result, also by the metrics that the ``search`` block of its file names.

    Args:
        target: a recipe file, an exported folder, the name of a preset, or plain data.
        set: dotted keys and their values, e.g. ``{"mask.sparsity": 0.95}``.
        where: storage, data folder, device, and the user's own model and data.
        out: folder to write recipe.yaml, model.safetensors, masks.safetensors and metrics.json to.
        sink: callbacks that receive the progress.
        fresh: train everything from scratch and store nothing.

    Returns:
        The masks, the final weights, the receipt of every round and the metrics.

    Raises:
        UserError: the recipe or an argument is invalid; lists every problem.
        TrialError: the loss is NaN, or the device ran out of memory.
        StorageError: `out` cannot be written.

    Example:
        >>> import prune_search
        >>> result = prune_search.run("snip", set={"mask.sparsity": 0.8})
        >>> result.receipt.units_kept
        2380
    """
    of_type_or_none("out", out, PATH, PATH_SAID)
    result = _run(target, set, where_given(where), out, sink, fresh)
    if sum(tensor.numel() * tensor.element_size() for tensor in result.tensors.values()) >= LARGE:
        # Rounds and segments know each other: Python alone would keep their copies of the network for a long time.
        gc.collect()
    return result


def run_stored(
    target: Target,
    search: Mapping[str, Any],
    *,
    where: Where,
    out: str | Path | None = None,
    sink: Sink | None = None,
) -> Result | None:
    """As `run`, from the states that the workers of a search have stored, which are those of a whole network.

    Args:
        target: a recipe of the search.
        search: its canonical search block, which says how many workers trained a trial together, and how.
        where: storage, data folder, device, and the user's own model and data.
        out: folder that is written.
        sink: callbacks that receive the progress.

    Returns:
        The result, or None where something of it would have to be trained.
    """
    from prune_search.training.state_store import LackingError

    try:
        return _run(target, None, where, out, sink, False, search)
    except LackingError:
        return None


class _Nobody:
    """Who trains nothing."""

    replays = False

    def take(self, address: str) -> bool:
        """Nothing is trained further than it is stored."""
        return False

    def give(self, address: str) -> None:
        """Nothing was taken."""


def _run(
    target: Target,
    values: Mapping[str, Any] | None,
    where: Where,
    out: str | Path | None,
    sink: Sink | None,
    fresh: bool,
    trained: Mapping[str, Any] | None = None,
) -> Result:
    """See `run`; with the search block by which it was `trained`, see `run_stored`."""
    space, folder = read_target(target, [*where.values(values).items()])
    recipe = space.only_recipe()
    from prune_search.recipe.search_block import metrics_asked
    from prune_search.trial.folder import check_out, write_folder
    from prune_search.trial.run import Sharing, run_trial

    try:
        setup = where.trial_setup(recipe, folder, trained)
    except UserError as error:
        raise error.of(space.source) from None
    if out is not None:
        check_out(local_folder(Path(out), "--out"), setup.key)
    cleaner = None if fresh else where.cleaner()
    asked = metrics_asked(space.search)
    sharing = None if trained is None else Sharing(_Nobody())
    storage = None if cleaner is None else cleaner.storage
    result = run_trial(setup, storage, sink, space.preset, sharing=sharing, asked=asked)
    if cleaner is not None:
        cleaner.finish()
    if out is not None:
        from prune_search.training.segment import MODEL

        start = {key.removeprefix(MODEL): value for key, value in setup.start.items()}
        write_folder(result, Path(out), start if recipe.train.start is not None else None, setup.given_teacher)
    return result


@dataclass(frozen=True)
class Verified:
    """Whether a recipe reproduces the same network.

    Attributes:
        verdict: ``exact`` (mask and weights), ``mask-equal`` or ``different``.
        result: the result of the new run.
        environment: the environment class of the run that it is compared with.
    """

    verdict: str
    result: Result
    environment: Mapping[str, Any]


def verify(
    target: Target,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    out: str | Path | None = None,
    sink: Sink | None = None,
) -> Verified:
    """Run a recipe from scratch, ignoring stored states, and compare the results.

    The folder of a finished run is compared with its content; anything else is run twice.

    Raises:
        UserError: as for `run`, or the files of a folder contradict each other.
        TrialError: see `run`.
    """
    from prune_search.trial.folder import read_recorded
    from prune_search.trial.run import results_differ

    check_target(target)
    is_folder = not isinstance(target, Mapping) and Path(target).is_dir()
    if is_folder:
        claims = read_recorded(Path(str(target)))
        known: Mapping[str, object] = claims.as_data()
        environment = claims.environment
    else:
        first = run(target, set=set, where=where, fresh=True)
        known, environment = first.as_data(), first.environment
    result = run(target, set=set, where=where, out=out, sink=sink, fresh=True)
    return Verified(results_differ(known, result.as_data()), result, environment)


def preset_text(name: str) -> str:
    """The text of a preset as a recipe file, with a comment that says how to run it.

    Raises:
        UserError: there is no such preset.
    """
    from prune_search.recipe import strict_yaml
    from prune_search.recipe.axes import PRESETS
    from prune_search.recipe.problems import not_one_of
    from prune_search.recipe.recipe import Recipe

    if name not in PRESETS:
        raise UserError([Problem("", not_one_of(name, PRESETS), "preset")])
    entry = PRESETS[name]
    # Not placed on any clock: a preset has its paper's length, which can be past the default task's.
    canonical = Recipe.read(entry.make()).canonical
    head = [f"# {entry.summary}", *([f"# {entry.source}"] if entry.source else []), "# prune-search run FILE"]
    ordered = {key: canonical[key] for key in ("schema", *BLOCKS)}
    return "\n".join(head) + "\n" + strict_yaml.dump(ordered)


__all__ = ["Verified", "Where", "preset_text", "read_target", "run", "verify"]
