"""Searches, put together: launch, resume, compare, export. `search`, `tracking` and `report` meet only here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api import Target, Where, read_target
from prune_search.recipe import strict_yaml
from prune_search.recipe.merge import Written
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import canonical_json
from prune_search.recipe.shipped import shipped_space
from prune_search.recipe.space import Space
from prune_search.trial.ranking import Goals
from prune_search.trial.records import (
    FORMAT,
    SEARCH_FILE,
    SearchRecords,
    TrialRecords,
    read_search,
    search_folder,
)

if TYPE_CHECKING:
    from prune_search.search.driver import Listener

FINISH_TRACKING_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        records: everything that is known of it.
        signal: the signal that ended it early, or None.
        undelivered: records that MLflow has not got yet; `sync` delivers them.
        parent_run_id: of the search's run in MLflow, or None.
        wall_s: seconds.
    """

    records: SearchRecords
    signal: int | None
    undelivered: int
    parent_run_id: str | None
    wall_s: float

    def as_data(self) -> dict[str, Any]:
        """What ``launch --json`` and ``resume --json`` print."""
        definition, counts = self.records.definition, self.records.counts()
        goals = Goals.of(definition["space"]["search"])
        dense = self.records.trials.get("control-dense")
        figures = dense.metrics if dense is not None and dense.result else None
        trials = self.records.numbered()
        best, met = goals.best(trials, figures)
        everything = list(self.records.trials.values())
        ended = [trial.ended.data for trial in everything if trial.ended is not None]
        return {
            "name": self.records.name,
            "storage": str(self.records.folder.parent.parent),
            "tracking_uri": definition["tracking_uri"],
            "experiment": definition["experiment"],
            "parent_run_id": self.parent_run_id,
            "trials": {
                "completed": counts["completed"],
                "stopped": counts["stopped"],
                "failed": counts["failed"],
                "duplicates": counts["duplicate"],
            },
            "best": None if best is None else _shortly(best),
            "constraints_met": met,
            "pareto": [_shortly(trial) for trial in goals.pareto(trials, figures)],
            "steps_trained": sum(int(data["steps_trained"]) for data in ended),
            "steps_saved": sum(int(data["steps_saved"]) for data in ended),
            "undelivered": self.undelivered,
            "wall_s": round(self.wall_s, 3),
        }


def _shortly(trial: TrialRecords) -> dict[str, Any]:
    data = {} if trial.proposed is None else trial.proposed.data
    return {
        "key": trial.result.get("key"),
        "name": data.get("name"),
        "paradigm": data.get("paradigm"),
        "metrics": dict(trial.metrics),
    }


@dataclass(frozen=True)
class Options:
    """How a search is launched, besides its space.

    Attributes:
        name: of the search; None: after the space.
        tracking_uri: of MLflow; None: SQLite in the storage.
        address: of a Ray cluster; None: this machine.
        heartbeat_s: a worker that makes no step for so long is started again.
    """

    name: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    heartbeat_s: float = 300.0


def launch(
    target: Target,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Search a space.

    Args:
        target: a space file, the name of a shipped space, or plain data.
        set: dotted keys and their values, e.g. ``{"search.trials": 8}``.
        where: places, and the user's own model and data.
        options: name, MLflow, cluster.
        listener: told the records whenever a trial was started or ended.

    Returns:
        The records of all trials, and what became of them.

    Raises:
        UserError: something that the user wrote is wrong, or the search exists.

    Example:
        >>> import prune_search
        >>> outcome = prune_search.launch("quickstart", set={"search.trials": 6})
        >>> outcome.as_data()["best"]["paradigm"]
    """
    where, options = where or Where(), options or Options()
    shipped = shipped_space(target) if isinstance(target, str) else None
    space, _ = read_target(shipped or target, [*(set or {}).items(), *where.assignments()])
    if not space.has_holes:
        raise UserError([Problem("", "has no holes to search over: use run, or give it some", space.source)])
    _check_search(space)
    storage = where.storage_folder()
    examples = _check_trial(space, where)
    folder = _new_folder(storage, options.name or _default_name(space.source), options.name is not None)
    definition = _definition(space, folder.name, storage, where, options)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open(folder / SEARCH_FILE, "x", encoding="utf-8") as file:
            file.write(canonical_json(definition) + "\n")
    except FileExistsError:
        raise UserError([Problem("--name", f"a search {shown(folder.name)} exists already")]) from None
    return _run(space, folder, storage, where, options, listener, examples)


def resume(
    name: str,
    *,
    where: Where | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
    fork: bool = False,
) -> Outcome:
    """Go on with a search from its ledger, each trial from its last state.

    Args:
        name: of the search.
        where: storage; the data folder, where it has moved.
        options: cluster, heartbeat.
        listener: told the records whenever a trial was started or ended.
        fork: start anew from the edited space file, under a new name; everything trained is taken up.

    Raises:
        UserError: there is no such search, it is running, or its space file was edited.
    """
    where, options = where or Where(), options or Options()
    storage = where.storage_folder()
    folder = search_folder(storage, name)
    definition = read_search(folder).definition
    code = definition["code"]
    given = Where(
        where.data_root or definition["data_root"], storage, code.get("model"), code.get("data"), where.device
    )
    edited = _edited(definition)
    if fork:
        source = Path(definition["source"])
        target: Target = str(source) if source.exists() else strict_yaml.load(definition["text"])
        forked = Options(options.name or _free_name(storage, f"{name}-fork"), definition["tracking_uri"], options.address)
        return launch(target, where=given, options=forked, listener=listener)
    if edited:
        text = f"was edited since the search was launched ({'; '.join(edited[:5])}): undo that, or resume with --fork"
        raise UserError([Problem("", text, definition["source"])])
    space = space_of(definition)
    return _run(space, folder, storage, given, options, listener, _check_trial(space, given))


def space_of(definition: Mapping[str, Any]) -> Space:
    """The space that a search was launched with."""
    options = tuple(
        (option["label"], {key: value for key, value in option.items() if key != "label"})
        for option in definition["space"]["options"]
    )
    return Space(Written(options, definition["space"]["search"]), definition["space"]["search"], definition["source"])


def _edited(definition: Mapping[str, Any]) -> list[str]:
    """Where the space file differs from what was launched."""
    path = Path(definition["source"])
    if not definition["text"] or not path.is_file():
        return []
    now, then = strict_yaml.load_file(path), strict_yaml.load(definition["text"])
    return [] if now == then else list(_differences(then, now, ""))


def _differences(then: Any, now: Any, path: str) -> list[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        keys = [*then, *(key for key in now if key not in then)]
        inner = (_differences(then.get(key), now.get(key), f"{path}.{key}".strip(".")) for key in keys)
        return [line for lines in inner for line in lines]
    return [] if then == now else [f"{path}: {shown(then)} became {shown(now)}"]


def _check_search(space: Space) -> None:
    from prune_search.search.proposer import check_sampler
    from prune_search.search.schedulers import check_scheduler

    problems = [*check_sampler(space), *check_scheduler(space)]
    if problems:
        raise UserError(problems).of(space.source)


def _check_trial(space: Space, where: Where) -> int:
    """Find out before Ray is started whether data and model are there and fit; the size of the training set."""
    from prune_search.search.agenda import dense_recipe
    from prune_search.training.environment import pick_device
    from prune_search.trial.bench import prepare

    try:
        bench = prepare(dense_recipe(space), pick_device(where.device), where.data_folder(), where.code())
    except UserError as error:
        raise error.of(space.source) from None
    return len(bench.data.train.labels)


def _default_name(source: str) -> str:
    stem = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in Path(source).stem)
    return stem.lstrip(".") or "search"


def _new_folder(storage: Path, name: str, typed: bool) -> Path:
    """The folder of a new search. A name that was not typed gets a number where a finished search has it."""
    from prune_search.search.lease import read_holder

    folder = search_folder(storage, name)
    if not (folder / SEARCH_FILE).exists():
        return folder
    holder = read_holder(folder)
    if holder is not None and holder.alive():
        text = f"the search {shown(name)} is held by process {holder.pid} on {holder.host}; it is running"
        raise UserError([Problem("", text)])
    finished = (folder / ENDED_FILE).exists()
    if typed or not finished:
        advice = f"name another one with --name, or go on with it: prune-search resume {name}"
        raise UserError([Problem("--name", f"a search {shown(name)} exists already: {advice}")])
    return search_folder(storage, _free_name(storage, name))


def _free_name(storage: Path, name: str) -> str:
    number = 2
    free = name
    while (search_folder(storage, free) / SEARCH_FILE).exists():
        free, number = f"{name}-{number}", number + 1
    return free


ENDED_FILE = "ended.json"


def _definition(space: Space, name: str, storage: Path, where: Where, options: Options) -> dict[str, Any]:
    import secrets

    from prune_search import __version__
    from prune_search.search.agenda import dense_recipe
    from prune_search.tracking.store import absolute_uri, default_uri

    path = Path(space.source)
    task = dense_recipe(space).blocks["task"]
    names = {key: value if isinstance(value, str) else value["name"] for key, value in task.items() if key != "seed"}
    root = where.data_folder()
    uri = options.tracking_uri
    return {
        "format": FORMAT,
        "name": name,
        "id": secrets.token_hex(8),
        "space": space.canonical(),
        "space_sha256": space.digest(),
        "text": path.read_text(encoding="utf-8") if path.is_file() else "",
        "source": str(path.absolute()) if path.is_file() else space.source,
        "task": names,
        "data_root": None if root is None else str(root.absolute()),
        "code": {"model": where.code().named().get("model"), "data": where.code().named().get("data")},
        "tracking_uri": default_uri(storage) if uri is None else absolute_uri(uri, storage),
        "experiment": f"{names['data']}/{names['model']}",
        "created": time.time(),
        "version": __version__,
    }


def _run(
    space: Space, folder: Path, storage: Path, where: Where, options: Options, listener: Listener | None, examples: int
) -> Outcome:
    from prune_search.search.driver import Means, run_search
    from prune_search.tracking.drain import Drain

    begun = time.monotonic()
    definition = read_search(folder).definition
    code = where.code().named()
    means = Means(
        folder=folder,
        storage=storage,
        data_root=where.data_folder(),
        code={"model": code.get("model"), "data": code.get("data")},
        device=where.device,
        address=options.address,
        heartbeat_s=options.heartbeat_s,
        examples=examples,
    )
    drain = Drain(folder, definition["tracking_uri"], definition["experiment"])
    drain.start()
    try:
        records, signal = run_search(space, means, listener)
        if signal is None:
            (folder / ENDED_FILE).write_text("{}\n", encoding="utf-8")
    finally:
        left = drain.finish(FINISH_TRACKING_S)
    waiting = int(getattr(left, "waiting", 0))
    parent = getattr(left, "parent_run_id", None)
    return Outcome(records, signal, waiting, parent, time.monotonic() - begun)


def compare(*names: str, where: Where | None = None, sort: str | None = None) -> dict[str, Any]:
    """The leaderboard of one or several searches, as ``compare --json`` prints it.

    Args:
        names: of searches of one storage, on the same data set.
        where: storage.
        sort: a metric to rank by instead of the first objective.

    Returns:
        ``rows`` (trials that differ only in the seed are one), ``pareto``, ``controls``, ``best``.

    Raises:
        UserError: there is no such search, or they are not comparable.
    """
    from prune_search.report.compare import compare_data

    storage = (where or Where()).storage_folder()
    return compare_data([read_search(search_folder(storage, name)) for name in names], sort)
