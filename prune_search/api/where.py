"""Where a run reads its data and keeps its states, and which of the user's code it may run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.argument_types import PATH, PATH_SAID, function, made, of_type, of_type_or_none, values
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import prepare_storage
from prune_search.storage.object_paths import ObjectPath
from prune_search.storage.places import StoragePath, place_of, resolved

if TYPE_CHECKING:
    from prune_search.recipe.recipe import Recipe
    from prune_search.storage.budget import StorageCleaner
    from prune_search.tasks.task import Task
    from prune_search.trial.data_and_network import Code, Factory
    from prune_search.trial.setup import TrialSetup

DATA_ROOT_VARIABLE = "PRUNE_SEARCH_DATA"


STORAGE_VARIABLE = "PRUNE_SEARCH_STORAGE"


DEFAULT_STORAGE = "prune-search-store"


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
        storage_budget: maximum size of the stored states, in bytes or as ``20GB``; None:
            ``$PRUNE_SEARCH_STORAGE_BUDGET``, else no limit.
        task: model and data at once: a `Task`, or a function that returns one, also as ``package.module:function``.
    """

    data_root: str | Path | None = None
    storage: str | StoragePath | None = None
    model: str | Factory | None = None
    data: str | Factory | None = None
    device: str = "auto"
    storage_budget: str | int | None = None
    task: str | Factory | Task | None = None

    def __post_init__(self) -> None:
        """Refuse values of a wrong type.

        Raises:
            UserError: one has another type.
        """
        of_type_or_none("where.data_root", self.data_root, PATH, PATH_SAID)
        of_type_or_none("where.storage", self.storage, (*PATH, ObjectPath), f"{PATH_SAID}, or s3://bucket/prefix")
        for key, given in (("model", self.model), ("data", self.data)):
            if not isinstance(given, str):
                function(f"where.{key}", given, "a registered name, package.module:factory, or a function")
        of_type("where.device", self.device, (str,), "a text, such as auto, cpu or cuda:1")
        of_type_or_none("where.storage_budget", self.storage_budget, (str, int), "a size, such as 20GB, or bytes")

    def data_folder(self) -> Path | None:
        """The folder of the data sets' files, where one is named."""
        named = self.data_root or os.environ.get(DATA_ROOT_VARIABLE)
        return Path(named) if named else None

    def storage_folder(self) -> StoragePath:
        """The folder of the stored states, or the place in an object store.

        Raises:
            UserError: it is a file, or cannot be made; or the object store is away or refuses it.
        """
        return prepare_storage(named_storage(self.storage))

    def cleaner(self) -> StorageCleaner:
        """Who keeps the storage within its budget.

        Raises:
            UserError: the budget is no size, or the storage cannot be used.
        """
        from prune_search.storage.budget import VARIABLE, StorageCleaner
        from prune_search.storage.sizes import read_size

        named = self.storage_budget if self.storage_budget is not None else os.environ.get(VARIABLE) or None
        budget = read_size(named, "--storage-budget") if isinstance(named, str) else named
        return StorageCleaner(self.storage_folder(), budget)

    def code(self) -> Code:
        """The user's own code that was named here and may run."""
        from prune_search.trial.data_and_network import Code

        return Code(*(value if _is_code(value) else None for value in self.given_code().values()))

    def given_code(self) -> dict[str, str | Factory | None]:
        """Model and data, where a task is named those of the task.

        Raises:
            UserError: a task is named in another form.
        """
        task = self.task
        if isinstance(task, str) and ":" not in task:
            raise UserError([Problem("--task", f"must be MODULE:FUNCTION, such as my_task:task (got {shown(task)})")])
        if task is not None and not isinstance(task, str) and not callable(task):
            from prune_search.tasks.task import Whole

            task = Whole(task)
        return {"model": self.model if self.model is not None else task, "data": self.data or task}

    def trial_setup(
        self, recipe: Recipe, folder: Path | None = None, search: Mapping[str, Any] | None = None
    ) -> TrialSetup:
        """A recipe with its data and its network at w(0), on the device, with the code that was named here.

        Args:
            recipe: what is to be run.
            folder: of the recipe file, which ``train.from`` can be relative to.
            search: the canonical search block whose workers' states it goes with; None: it goes with those of one
                process alone.

        Raises:
            UserError: with everything that does not fit.
        """
        from prune_search.recipe.search_block import is_sharded, workers_of
        from prune_search.training.environment import pick_device
        from prune_search.trial.setup import prepare

        search = search or {}
        device, root, code = pick_device(self.device), self.data_folder(), self.code()
        declared, sharded = workers_of(search).declared, is_sharded(search)
        return prepare(recipe, device, root, code, folder, declared=declared, sharded=sharded)

    def values(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the options for a task, model and data set in the recipe, and ``--set`` then, such as their own options.

        Args:
            given: dotted path to value, as ``--set`` has them.
        """
        named = dict(self.assignments())
        return {**named, **{key: value for key, value in values(given).items() if key not in named}}

    def assignments(self) -> list[tuple[str, Any]]:
        """What ``--task``, ``--model`` and ``--data`` set in the recipe."""
        from prune_search.tasks.user import name_of

        given = {f"task.{key}": value for key, value in self.given_code().items() if value is not None}
        return [(key, value if isinstance(value, str) else name_of(value)) for key, value in given.items()]


def where_given(where: Where | None) -> Where:
    """The argument ``where`` of a public function; None: all defaults.

    Raises:
        UserError: it is something else.
    """
    return made("where", where, Where, "name a task by Where(task=…), and a storage by Where(storage=…)")


def named_storage(storage: str | StoragePath | None) -> StoragePath:
    """The storage that is named, in an option or the environment; looking at it does not make it.

    Raises:
        UserError: no such name can be one.
    """
    place = place_of(storage or os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE)
    return resolved(place) if isinstance(place, Path) else place.absolute()


def storage_option(storage: str | StoragePath | None) -> str:
    """`` --storage FOLDER`` for a command that is shown, where it would look elsewhere without; else nothing."""
    same = storage is None or named_storage(storage) == named_storage(None)
    return "" if same else f" --storage {shlex.quote(str(storage))}"


def _is_code(value: str | Factory | None) -> bool:
    return value is not None and (not isinstance(value, str) or ":" in value)
