"""How many of the steps that a planned search would train are stored already."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from prune_search.recipe.recipe import Recipe
from prune_search.storage.files import walk_files
from prune_search.storage.manifests import ADDRESS, MANIFEST, step_of
from prune_search.storage.names import VERTICES
from prune_search.storage.places import StoragePath
from prune_search.trial.addresses import branch_of

if TYPE_CHECKING:
    from prune_search.search.plan import Planned
    from prune_search.trial.setup import TrialSetup


def stored_steps(items: Iterable[Planned], setup_of: Callable[[Recipe], TrialSetup], storage: StoragePath) -> int:
    """Iterations that trials need and that nobody has to train again, each counted once.

    A segment counts as far as its furthest stored state that the trials can use. Manifests are not checked.

    Args:
        items: the trials.
        setup_of: reads the data and builds the network of a recipe; asked once per kind of network and start.
        storage: need not exist.

    Raises:
        UserError: data or network cannot be had.
        StorageError: the object store is away.
    """
    there = _reached(storage)
    setups: dict[str, TrialSetup] = {}
    needed: dict[str, int] = {}
    for item in items if there else ():
        train = item.recipe.train
        teacher = item.recipe.retrain_options.teacher
        kind = repr(
            (item.recipe.task.written, train.init.written, train.start, teacher, train.threads, train.precision)
        )
        if kind not in setups:
            setups[kind] = setup_of(item.recipe)
        # How it is trained changes the address, and neither the data nor w(0).
        root = replace(setups[kind], recipe=item.recipe, timeline=item.timeline).root()
        for vertex in branch_of(item.recipe, item.timeline, root, setups[kind].digests.get("teacher")).vertices():
            needed[vertex.address] = max(vertex.needed, needed.get(vertex.address, 0))
    return sum(
        max((step for step in there.get(address, ()) if step <= steps), default=0) for address, steps in needed.items()
    )


def _reached(storage: StoragePath) -> dict[str, list[int]]:
    """The stored steps of every segment, by its address."""
    found: dict[str, list[int]] = {}
    folder = storage / VERTICES
    for file in walk_files(folder) if folder.is_dir() else ():
        parts = file.name.split("/")
        if len(parts) == 4 and parts[3] == MANIFEST and ADDRESS.fullmatch(parts[1]):
            step = step_of(parts[2])
            if step is not None:
                found.setdefault(parts[1], []).append(step)
    return found
