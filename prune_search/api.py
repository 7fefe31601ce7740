"""What the command line and notebooks call: it puts the parts together."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.schema import BLOCKS
from prune_search.recipe.space import Space, find, read_space
from prune_search.training.objects import ObjectPath
from prune_search.training.places import Place, local_folder, place_of, side_folder
from prune_search.training.storage_error import StorageError, one_line

if TYPE_CHECKING:
    from prune_search.trial.bench import Code, Factory
    from prune_search.trial.budget import Warden
    from prune_search.trial.result import Result
    from prune_search.trial.sink import Sink

DATA_ROOT_VARIABLE = "PRUNE_SEARCH_DATA"
STORAGE_VARIABLE = "PRUNE_SEARCH_STORAGE"
DEFAULT_STORAGE = "prune-search-store"

Target = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class Where:
    """The places and the code that a run uses.

    Attributes:
        data_root: folder of the data sets' files; None: ``$PRUNE_SEARCH_DATA``.
        storage: folder of the stored states, or ``s3://bucket/prefix``; None: ``$PRUNE_SEARCH_STORAGE``, else
            ``./prune-search-store``.
        model: a registered model, ``package.module:factory``, or a callable; None: the recipe's.
        data: the same for the data set.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        storage_budget: what the stored states may take, in bytes or as ``20GB``; None:
            ``$PRUNE_SEARCH_STORAGE_BUDGET``, else no limit.
    """

    data_root: str | Path | None = None
    storage: str | Place | None = None
    model: str | Factory | None = None
    data: str | Factory | None = None
    device: str = "auto"
    storage_budget: str | int | None = None

    def data_folder(self) -> Path | None:
        """The folder of the data sets' files, where one is named."""
        named = self.data_root or os.environ.get(DATA_ROOT_VARIABLE)
        return Path(named) if named else None

    def storage_folder(self) -> Place:
        """The folder of the stored states, or the place in an object store.

        Raises:
            UserError: it is a file, or cannot be made; or the object store is away or refuses it.
        """
        folder = named_storage(self.storage)
        if isinstance(folder, ObjectPath):
            try:
                folder.is_dir()
                side_folder(folder).mkdir(parents=True, exist_ok=True)
            except (StorageError, OSError) as error:
                text = f"{shown(str(folder))} cannot be used: {one_line(error)}"
                raise UserError([Problem("--storage", text)]) from None
            return folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError([Problem("--storage", f"{shown(str(folder))} cannot be a folder: {reason}")]) from None
        return folder.absolute()

    def warden(self) -> Warden:
        """Who keeps the storage within its budget.

        Raises:
            UserError: the budget is no size, or the storage cannot be used.
        """
        from prune_search.trial.budget import VARIABLE, Warden, read_size

        named = self.storage_budget if self.storage_budget is not None else os.environ.get(VARIABLE) or None
        budget = read_size(named, "--storage-budget") if isinstance(named, str) else named
        return Warden(self.storage_folder(), budget)

    def code(self) -> Code:
        """The user's own code that was named here and may run."""
        from prune_search.trial.bench import Code

        return Code(*(value if _is_code(value) else None for value in (self.model, self.data)))

    def assignments(self) -> list[tuple[str, Any]]:
        """What ``--model`` and ``--data`` set in the recipe."""
        from prune_search.tasks.user import name_of

        given = (("task.model", self.model), ("task.data", self.data))
        return [(key, value if isinstance(value, str) else name_of(value)) for key, value in given if value is not None]


def named_storage(storage: str | Place | None) -> Place:
    """The storage that is named, in an option or the environment; looking at it does not make it.

    Raises:
        UserError: no such name can be one.
    """
    return place_of(storage or os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE).absolute()


def storage_option(storage: str | Place | None) -> str:
    """`` --storage FOLDER`` for a command that is shown, where it would look elsewhere without; else nothing."""
    same = storage is None or named_storage(storage) == named_storage(None)
    return "" if same else f" --storage {shlex.quote(str(storage))}"


def _is_code(value: str | Factory | None) -> bool:
    return value is not None and (not isinstance(value, str) or ":" in value)


def read_target(target: Target, sets: Sequence[tuple[str, Any]] = ()) -> tuple[Space, Path | None]:
    """A recipe, space or preset, and the folder of its file.

    Args:
        target: a file, an exported folder, the name of a preset, or plain data.
        sets: keys and values, as ``--set`` has them.

    Raises:
        UserError: with everything that is wrong with it.
    """
    if isinstance(target, Mapping):
        return read_space(target, "recipe", sets), None
    raw, source = find(str(target))
    path = Path(source)
    folder = path.parent if path.exists() else None
    return read_space(raw, source, sets), folder


def run(
    target: Target,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    out: str | Path | None = None,
    sink: Sink | None = None,
    fresh: bool = False,
) -> Result:
    """Run one recipe to its end.

    Args:
        target: a recipe file, an exported folder, the name of a preset, or plain data.
        set: dotted keys and their values, e.g. ``{"mask.sparsity": 0.95}``.
        where: places, and the user's own model and data.
        out: a folder to write recipe.yaml, model.safetensors, masks.safetensors and metrics.json to.
        sink: told how it goes.
        fresh: train everything anew, and store nothing.

    Returns:
        The masks, the final weights, the receipt of every round and the metrics.

    Raises:
        UserError: something that the user wrote is wrong; all of it at once.
        TrialError: the loss is no number, or the device is out of memory.
        StorageError: `out` could not be written.

    Example:
        >>> import prune_search
        >>> result = prune_search.run("snip", set={"mask.sparsity": 0.8})
        >>> result.receipt.units_kept
        2380
    """
    where = where or Where()
    space, folder = read_target(target, [*(set or {}).items(), *where.assignments()])
    recipe = space.only_recipe()
    from prune_search.training.environment import pick_device
    from prune_search.trial.bench import prepare
    from prune_search.trial.folder import check_out, write_folder
    from prune_search.trial.run import run_bench

    try:
        bench = prepare(recipe, pick_device(where.device), where.data_folder(), where.code(), folder)
    except UserError as error:
        raise error.of(space.source) from None
    if out is not None:
        check_out(local_folder(Path(out), "--out"), bench.key)
    warden = None if fresh else where.warden()
    result = run_bench(bench, None if warden is None else warden.storage, sink, space.preset)
    if warden is not None:
        warden.finish()
    if out is not None:
        from prune_search.training.stretch import MODEL

        start = {key.removeprefix(MODEL): value for key, value in bench.start.items()}
        write_folder(result, Path(out), start if "from" in recipe.train else None)
    return result


@dataclass(frozen=True)
class Verified:
    """Whether a recipe gives the same network again.

    Attributes:
        verdict: ``exact`` (mask and weights), ``mask-equal`` or ``different``.
        result: of the new run.
        environment: the environment class that it is compared with.
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
    """Run a recipe anew, with nothing stored taken up, and compare.

    A folder of a finished run is compared with what lies in it; anything else is run twice.

    Raises:
        UserError: also where a folder's files contradict each other.
        TrialError: see `run`.
    """
    from prune_search.trial.folder import read_claims
    from prune_search.trial.run import results_differ

    is_folder = not isinstance(target, Mapping) and Path(target).is_dir()
    if is_folder:
        claims = read_claims(Path(str(target)))
        known: Mapping[str, object] = claims.as_data()
        environment = claims.environment
    else:
        first = run(target, set=set, where=where, fresh=True)
        known, environment = first.as_data(), first.environment
    result = run(target, set=set, where=where, out=out, sink=sink, fresh=True)
    return Verified(results_differ(known, result.as_data()), result, environment)


def preset_text(name: str) -> str:
    """A preset as a recipe file, under a comment that says how to run it.

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
