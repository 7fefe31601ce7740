"""The definition of a search in search.json: its names and folders, and whether its space file was edited since."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.ledger.records import ENDED_FILE, FORMAT, SEARCH_FILE, search_folder
from prune_search.recipe import strict_yaml
from prune_search.recipe.merge import Written
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.space import Space, read_space
from prune_search.storage.places import StoragePath

if TYPE_CHECKING:
    from prune_search.api.where import Where
    from prune_search.simulation.surface import Simulation


# Names can have 128 letters: room for a number behind it.
MAX_NAME = 120
# How the holes of a search are ordered; a search that says nothing was launched by version 0.1, in its file's order.
BY_NAME = "by name"


def space_of(definition: Mapping[str, Any]) -> Space:
    """The space that a search was launched with, its holes drawn in the order that the search began with."""
    written, search = definition["space"]["options"], definition["space"]["search"]
    options = tuple(
        (option["label"], {key: value for key, value in option.items() if key not in ("label", "own")})
        for option in written
    )
    # What an option wrote itself is in the names of its holes, by which a sampler knows them.
    own = {option["label"]: frozenset(option["own"]) for option in written}
    space = Space(Written(options, search, own=own), search, definition["source"])
    return space if definition.get("hole_order") == BY_NAME else _as_it_began(definition, replace(space, of_0_1=True))


def _as_it_began(definition: Mapping[str, Any], stored: Space) -> Space:
    """The space of a search of version 0.1 with its file's order of keys, which search.json has lost.

    A preset may have other values by now: the values are those that were stored, in the order of today's reading.

    Returns:
        The space as it was stored where the order cannot be had: it was no file, or its options read otherwise by now.
    """
    if not definition["text"]:
        return stored
    try:
        raw = strict_yaml.load(definition["text"])
        space = read_space(raw, definition["source"], list(definition.get("set", {}).items()))
    except UserError:
        return stored
    old, new = stored.written.options, space.written.options
    if [label for label, _ in old] != [label for label, _ in new]:
        return stored
    options = tuple((label, _ordered(blocks, like)) for (label, blocks), (_, like) in zip(old, new, strict=True))
    return replace(stored, written=replace(stored.written, options=options), as_written=True)


def _ordered(stored: Any, like: Any) -> Any:
    """What was stored, the keys of its mappings in the order of another; keys that this has not come last."""
    if isinstance(stored, dict) and isinstance(like, Mapping):
        keys = [*(key for key in like if key in stored), *(key for key in stored if key not in like)]
        return {key: _ordered(stored[key], like.get(key)) for key in keys}
    if isinstance(stored, list) and isinstance(like, list) and len(stored) == len(like):
        return [_ordered(*pair) for pair in zip(stored, like, strict=True)]
    return stored


def edited(definition: Mapping[str, Any]) -> list[str]:
    """Where the space file differs from what was launched."""
    path = Path(definition["source"])
    if not definition["text"] or not path.is_file():
        return []
    now, then = strict_yaml.load_file(path), strict_yaml.load(definition["text"])
    return [] if now == then else list(_differences(then, now, ""))


_ABSENT = object()


def _differences(then: Any, now: Any, path: str) -> list[str]:
    """What changed, key by key; of lists of one length place by place."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        keys = [*then, *(key for key in now if key not in then)]
        pairs = [(then.get(key, _ABSENT), now.get(key, _ABSENT), f"{path}.{key}".strip(".")) for key in keys]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(*values, f"{path}[{place}]") for place, values in enumerate(zip(then, now, strict=True))]
    elif then == now:
        return []
    elif then is _ABSENT or now is _ABSENT:
        return [f"{path}: {shown(now)} was added" if then is _ABSENT else f"{path}: {shown(then)} was removed"]
    else:
        return [f"{path}: {shown(then)} became {shown(now)}"]
    return [line for pair in pairs for line in _differences(*pair)]


def default_name(source: str) -> str:
    """A search's name after its file."""
    # Names have plain letters: accents are left out, and what has no plain letter becomes a hyphen.
    plain = unicodedata.normalize("NFKD", Path(source).stem.replace("ß", "ss"))
    stem = "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "._-" else "-"
        for letter in plain
        if not unicodedata.combining(letter)
    )
    return stem.lstrip(".")[:MAX_NAME] if stem.strip("._-") else "search"


def new_folder(storage: StoragePath, name: str, typed: bool) -> StoragePath:
    """The folder of a new search. A name that was not typed gets a number where a finished search has it."""
    from prune_search.api.where import storage_option
    from prune_search.storage.lease import LeaseHeldError, read_holder

    folder = search_folder(storage, name)
    if not (folder / SEARCH_FILE).exists():
        return folder
    holder = read_holder(folder)
    if holder is not None and holder.alive():
        raise LeaseHeldError(folder, holder)
    finished = (folder / ENDED_FILE).exists()
    if typed or not finished:
        option = storage_option(storage)
        advice = f"choose another --name, or continue it with: prune-search resume {name}{option}"
        raise UserError([Problem("--name", f"a search {shown(name)} already exists: {advice}")])
    return search_folder(storage, free_name(storage, name))


def free_name(storage: StoragePath, name: str) -> str:
    """`name` with the first number from 2 on that no search has."""
    number = 2
    free = name
    while (search_folder(storage, free) / SEARCH_FILE).exists():
        free, number = f"{name}-{number}", number + 1
    return free


def define(
    space: Space,
    folder: StoragePath,
    where: Where,
    uri: str | None,
    values: Mapping[str, Any],
    simulation: Simulation | None = None,
) -> dict[str, Any]:
    """The content of search.json.

    Args:
        space: what is searched.
        folder: of the search, in its storage.
        where: places, and the user's own model and data.
        uri: of MLflow; None: SQLite in the storage.
        values: what ``--set`` and other options changed in the file, for a fork to change too.
        simulation: how trials are simulated; None: they are trained. Simulated ones have an experiment of their own.
    """
    import secrets

    from prune_search.ledger.tracking_uri import kept_uri
    from prune_search.search.given_code import GivenCode
    from prune_search.search.next_trial import dense_recipe
    from prune_search.tracking.store import absolute_uri
    from prune_search.version import __version__

    path = Path(space.source)
    task = dense_recipe(space).task
    names = {"data": task.data.name, "model": task.model.name}
    root, code = where.data_folder(), where.code()
    given = GivenCode.of(code)
    storage = folder.parent.parent
    simulated = {} if simulation is None else {"simulated": simulation.as_data()}
    return {
        "format": FORMAT,
        "name": folder.name,
        "id": secrets.token_hex(8),
        "space": space.canonical(),
        "space_sha256": space.digest(),
        "hole_order": BY_NAME,
        "text": path.read_text(encoding="utf-8") if path.is_file() else "",
        "source": str(path.absolute()) if path.is_file() else space.source,
        "set": dict(values),
        "task": names,
        "data_root": None if root is None else str(root.absolute()),
        "code": {"model": code.named().get("model"), "data": code.named().get("data")},
        **({} if given is None else {"given": given.settings()}),
        "tracking_uri": kept_uri(absolute_uri(uri or "", storage), storage),
        "experiment": _experiment(names, where) + ("-simulated" if simulated else ""),
        "created": time.time(),
        "version": __version__,
        **simulated,
    }


def _experiment(names: Mapping[str, str], where: Where) -> str:
    """The experiment in MLflow: data and network; of a `Task` that was given itself, its own name."""
    from prune_search.tasks.task import WHOLE

    called = str(getattr(where.task, "name", "") or "task")
    own = [called if name == WHOLE else name for name in names.values()]
    return called if own == [called, called] and WHOLE in names.values() else "-".join(own)
