"""Launches and resumes searches. Only this file combines `search`, `tracking` and `report`."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.api.compare import draw
from prune_search.api.definition import default_name, define, edited, free_name, new_folder, space_of
from prune_search.api.outcome import Outcome
from prune_search.api.target import Target, read_search_space
from prune_search.api.trust import allowed_code, check_tracking, checked, remember
from prune_search.api.where import Where, where_given
from prune_search.ledger.records import (
    ENDED_FILE,
    SEARCH_FILE,
    TRIALS,
    SearchRecords,
    TrialRecords,
    read_search,
    search_folder,
)
from prune_search.ledger.tracking_uri import uri_of
from prune_search.recipe import strict_yaml
from prune_search.recipe.argument_types import function, made, of_type, of_type_or_none
from prune_search.recipe.begin import told
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import canonical_json
from prune_search.recipe.space import Space
from prune_search.simulation.surface import Simulation
from prune_search.storage.files import StorageError, check_writable, make_folder, put_file, remove_tree
from prune_search.storage.places import StoragePath
from prune_search.tracking.settings import prepare_process

if TYPE_CHECKING:
    from prune_search.search.launch_options import LaunchOptions
    from prune_search.search.next_trial import Listener
    from prune_search.search.stop_request import StopRequest

logger = logging.getLogger("prune_search")

FINISH_TRACKING_S = 30.0
# Whoever sends SIGTERM waits for half a minute; what is not delivered by then, `sync` delivers.
HURRIED_TRACKING_S = 10.0


@dataclass(frozen=True)
class Options:
    """Settings with which a search is launched, besides its space.

    Attributes:
        name: name of the search; None: the name of the space.
        tracking_uri: MLflow's tracking URI; None: SQLite in the storage.
        address: address of a Ray cluster; None: this machine.
        heartbeat_s: restart a worker after this many seconds without a step.
        sharing: whether trials share training; if False each trains everything, for comparisons.
        simulate: a surface: its name, a mapping with its name and options, or the path of a table of measured networks.
            Nothing is trained then, and no data is read. None: train the trials.
        system_metrics: whether to log the memory of trials and of their devices to MLflow too.
    """

    name: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    heartbeat_s: float = 300.0
    sharing: bool = True
    simulate: Any = None
    system_metrics: bool = False

    def __post_init__(self) -> None:
        """Refuse values of a wrong type.

        Raises:
            UserError: one has another type.
        """
        for key, given in (("name", self.name), ("tracking_uri", self.tracking_uri), ("address", self.address)):
            of_type_or_none(f"options.{key}", given, (str,), "a text")
        of_type("options.heartbeat_s", self.heartbeat_s, (int, float), "a number of seconds")
        for key, switch in (("sharing", self.sharing), ("system_metrics", self.system_metrics)):
            of_type(f"options.{key}", switch, (bool,), "True or False")


def launch_options(options: Options, where: Where) -> LaunchOptions:
    """What the two say of how trials are trained, as the one object that travels to the workers.

    Raises:
        UserError: the storage cannot be used.
    """
    from prune_search.search.given_code import GivenCode
    from prune_search.search.launch_options import LaunchOptions

    data_root, code = where.data_folder(), where.code()
    return LaunchOptions(
        storage=str(where.storage_folder()),
        data_root=None if data_root is None else str(data_root.absolute()),
        code=code.named(),
        given=GivenCode.of(code),
        device=where.device,
        address=options.address,
        heartbeat_s=options.heartbeat_s,
        sharing=options.sharing,
        system_metrics=options.system_metrics,
    )


def check_options(options: Options, where: Where) -> None:
    """Check the name and the tracking URI of a search before anything is computed for it.

    Raises:
        UserError: the name is taken or invalid, or the tracking URI is invalid.
    """
    from prune_search.tracking.store import absolute_uri

    storage = where.storage_folder()
    check_writable(storage)
    if options.name is not None:
        new_folder(storage, options.name, typed=True)
    if options.tracking_uri is not None:
        absolute_uri(options.tracking_uri, storage)


def launch(
    target: Target | Space,
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - the name of the option
    where: Where | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Search a space.

    Args:
        target: a space file, the name of a shipped space, plain data, or a space that was read before.
        set: dotted keys and their values, e.g. ``{"search.trials": 8}``.
        where: storage, data folder, device, and the user's own model and data.
        options: name, MLflow, cluster.
        listener: called with the records whenever a trial starts or ends; None: a notebook shows a bar and a table.

    Returns:
        The records of all trials and how the search ended.

    Raises:
        UserError: the space or an argument is invalid, or the search already exists.

    Example:
        >>> import prune_search
        >>> outcome = prune_search.launch("quickstart", set={"search.trials": 6})
        >>> outcome.as_data()["best"]["paradigm"]
    """
    prepare_process()
    where, options = where_given(where), made("options", options, Options)
    function("listener", listener, "a function of the records and the trial")
    space = read_search_space(target, [*where.values(set).items()])
    _check_search(space)
    for text in told(space.search):
        logger.warning("%s", text)
    simulation = None if options.simulate is None else Simulation.of(options.simulate)
    storage = where.storage_folder()
    check_writable(storage)
    from prune_search.search.guided.experience import gathered
    from prune_search.search.stop_request import holding

    if simulation is None:
        space, examples, validated = _check_trial(space, where)
        runner = _trained(space, launch_options(options, where), examples)
    else:
        examples, validated, runner = 0, 0, _simulated(space, simulation)
    experience = gathered(storage, space, simulation is not None, space_of)
    folder = new_folder(storage, options.name or default_name(space.source), options.name is not None)
    values = where.values(set)
    definition = define(space, folder, where, options.tracking_uri, values, simulation)
    definition |= {"examples": examples, "validated": validated, "system_metrics": options.system_metrics}
    make_folder(folder)
    # Held before it is there to be seen, so that of two that are launched at once one is told who runs it.
    with holding(folder) as asked:
        if (folder / SEARCH_FILE).exists():
            raise UserError([Problem("--name", f"a search {shown(folder.name)} already exists")])
        experience.store(folder)
        put_file(folder / SEARCH_FILE, (canonical_json(definition) + "\n").encode())
        remember(definition)
        try:
            return _run(folder, asked, runner, where, listener)
        except Exception:
            # What could not even begin leaves no search behind that would have to be deleted.
            with contextlib.suppress(StorageError):
                if not (folder / TRIALS).exists():
                    remove_tree(folder, SEARCH_FILE)
            raise


def resume(
    name: str,
    *,
    where: Where | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
    fork: bool = False,
) -> Outcome:
    """Continue a search from its ledger, each trial from its last stored state.

    Args:
        name: of the search.
        where: storage; the data folder if it has moved; model and data of a search that somebody else launched.
        options: cluster, heartbeat; MLflow of a search that somebody else launched.
        listener: called with the records whenever a trial starts or ends; None: a notebook shows a bar and a table.
        fork: start a new search from the edited space file, reusing everything trained so far.

    Raises:
        UserError: there is no such search, it is running, its space file was edited, or it is somebody else's and
            names code or an MLflow that are not named here.
    """
    prepare_process()
    where, options = where_given(where), made("options", options, Options)
    function("listener", listener, "a function of the records and the trial")
    of_type("name", name, (str,), "the name of a search")
    storage = where.storage_folder()
    check_writable(storage)
    folder = search_folder(storage, name)
    definition = checked(read_search(folder, trials=False).definition, name)
    code = allowed_code(definition, where, name)
    check_tracking(definition, storage, options.tracking_uri, name)
    given = Where(
        where.data_root or definition["data_root"],
        storage,
        code["model"],
        code["data"],
        where.device,
        where.storage_budget,
    )
    if fork:
        return _forked(name, definition, given, options, listener)
    changes = edited(definition)
    if changes:
        text = (
            f"was edited since the search was launched ({'; '.join(changes[:5])}): undo the edit, or resume with --fork"
        )
        raise UserError([Problem("", text, definition["source"])])
    space = space_of(definition)
    from prune_search.search.stop_request import holding

    with holding(folder) as asked:
        simulated = definition.get("simulated")
        if simulated is not None:
            runner = _simulated(space, Simulation.again(simulated))
        else:
            # As it was launched.
            options = replace(options, system_metrics=definition.get("system_metrics", False))
            runner = _trained(space, launch_options(options, given), _check_trial(space, given)[1])
        return _run(folder, asked, runner, given, listener)


def _forked(
    name: str, definition: Mapping[str, Any], where: Where, options: Options, listener: Listener | None
) -> Outcome:
    """Launch a search from the edited space file of another one, under a name of its own."""
    source, storage = Path(definition["source"]), where.storage_folder()
    if not definition["text"]:
        raise UserError(
            [Problem("--fork", "the search was not launched from a file: launch a new search instead", name)]
        )
    target: Target = str(source) if source.exists() else strict_yaml.load(definition["text"])
    forked = replace(
        options,
        name=options.name or free_name(storage, f"{name}-fork"),
        tracking_uri=uri_of(definition, storage),
        simulate=(definition.get("simulated") or {}).get("surface"),
        system_metrics=definition.get("system_metrics", False),
    )
    return launch(target, set=definition.get("set"), where=where, options=forked, listener=listener)


def _check_search(space: Space) -> None:
    from prune_search.search.proposer import check_sampler
    from prune_search.search.schedulers import check_scheduler

    problems = [*check_sampler(space), *check_scheduler(space)]
    if problems:
        raise UserError(problems).of(space.source)


def _check_trial(space: Space, where: Where) -> tuple[Space, int, int]:
    """Find out before Ray is started whether data and model are there and fit.

    Returns:
        The space, whose objectives name metrics of its task, and how many training and validation examples there are.
    """
    from prune_search.recipe.metric_names import wrong_metric
    from prune_search.recipe.search_block import metrics_asked, resolved
    from prune_search.search.next_trial import dense_recipe
    from prune_search.trial.metrics import check_asked

    try:
        setup = where.trial_setup(dense_recipe(space))
    except UserError as error:
        raise error.of(space.source) from None
    metrics = list(setup.data.metrics)
    search = resolved(space.search, metrics, setup.data.best)
    wrong = [text for name in metrics_asked(search) if (text := wrong_metric(name, [*metrics, "loss"]))]
    if wrong:
        raise UserError(Problem("search.objectives", text, space.source) for text in wrong)
    try:
        check_asked(setup, metrics_asked(search))
    except UserError as error:
        raise error.of(space.source) from None
    named = space if search == space.search else replace(space, search=search)
    return named, len(setup.data.train), len(setup.data.validation)


# Runs the trials of the search in a folder to their end, or until it is asked to end.
Runner = Callable[["StoragePath", "StopRequest", "Listener"], SearchRecords]


def _trained(space: Space, options: LaunchOptions, examples: int) -> Runner:
    """Trials are trained, by Ray Tune; `examples` is the size of the training set."""
    from prune_search.search.ray.connection import session_folder
    from prune_search.search.ray.driver import Launched, check_given, run_search

    if options.given is not None:
        check_given(options.given)
    if options.address is None:
        # Refused before the search is made.
        session_folder()
    return lambda folder, asked, listener: run_search(Launched(folder, space, options, examples), asked, listener)


def _simulated(space: Space, simulation: Simulation) -> Runner:
    """Trials are simulated, in this process.

    Raises:
        UserError: the surface says nothing about the space's networks, or a metric needs one.
    """
    from prune_search.search.next_trial import dense_recipe
    from prune_search.simulation.search import check_metrics, simulate_search

    try:
        check_metrics(space)
        simulation.surface.check(dense_recipe(space))
    except UserError as error:
        raise error.of(space.source) from None
    return lambda folder, asked, listener: simulate_search(space, folder, simulation, asked, listener)


def _run(folder: StoragePath, asked: StopRequest, runner: Runner, where: Where, listener: Listener | None) -> Outcome:
    from prune_search.api.notebook import notebook_view
    from prune_search.tracking.delivery_thread import DeliveryThread

    begun = time.monotonic()
    listener = listener or notebook_view()
    search = read_search(folder, trials=False)
    delivery_thread = DeliveryThread(folder, search.tracking_uri, search.definition["experiment"])
    # It begins with the first trial: before, its import would only delay the start.
    deliver = functools.cache(delivery_thread.start)
    cleaner = where.cleaner()

    def told(records: SearchRecords, trial: TrialRecords | None) -> None:
        deliver()
        if trial is not None:
            cleaner.trial_ended()
        if listener is not None:
            listener(records, trial)

    try:
        records = runner(folder, asked, told)
        if not asked():
            put_file(folder / ENDED_FILE, b"{}\n")
            cleaner.finish()
        # Whoever asked it to end does not wait for pictures.
        if not asked():
            draw(records)
        deliver()
    finally:
        left = delivery_thread.finish(HURRIED_TRACKING_S if asked() else FINISH_TRACKING_S)
    reason = left.reason if left.waiting else ""
    return Outcome(records, asked.signal, left.waiting, left.parent_run_id, time.monotonic() - begun, reason)
