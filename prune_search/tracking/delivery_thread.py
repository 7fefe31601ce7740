"""The thread that delivers a search's records to MLflow, and ``sync``, which does so in the foreground.

No trial and no control loop waits for MLflow: what they leave is records, and this thread is the only one that reads
them for MLflow and calls it. If MLflow is down, slow or gone forever, the search is not affected.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from prune_search.ledger.reader import Follower
from prune_search.ledger.records import SearchRecords, read_search
from prune_search.ledger.state import State, state_of
from prune_search.ledger.tracking_uri import absolute_sqlite
from prune_search.ledger.uris import masked
from prune_search.recipe.problems import UserError
from prune_search.storage import places
from prune_search.storage.files import one_line
from prune_search.tracking.delivered_log import BusyError, DeliveredLog, memory_folder, only_writer
from prune_search.tracking.delivery import Delivered, Delivery, Destination, waiting
from prune_search.tracking.hole_weights import weights_in
from prune_search.tracking.leaderboard import fronts, placed
from prune_search.tracking.project import PICTURES, project, project_parent, project_trial
from prune_search.tracking.run_content import PARENT, RunView, remaining
from prune_search.tracking.server import FilesError, RefusedError, Server, UnreachableError, connect
from prune_search.tracking.settings import prepare_process
from prune_search.tracking.store import artifact_root
from prune_search.tracking.ui_views import search_tags, searches_tag

LOOK_EVERY_S = 1.0
READING_SHARE = 10.0
# The parent run sums all trials up, which takes longer the more there are.
PARENT_EVERY_S, PARENT_SHARE = 5.0, 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
TELL_EVERY_S = 60.0
SYNC_ATTEMPTS = 3
LOGGER = logging.getLogger("prune_search")
Connect = Callable[[str], Server]
_VERBS: dict[type, str] = {
    FilesError: "takes no files",
    UnreachableError: "cannot be reached",
    RefusedError: "refused",
}


class TrackingError(Exception):
    """MLflow cannot be reached, or refused something. One line, without passwords."""


@dataclass(frozen=True)
class Undelivered:
    """What MLflow has not got.

    Attributes:
        waiting: operations that wait; ``sync`` delivers them.
        parent_run_id: MLflow's id of the search's run, or None where it does not exist yet.
        reason: why they wait, on one line; empty where nothing waits.
    """

    waiting: int
    parent_run_id: str | None
    reason: str = ""


@dataclass
class _Pauses:
    """Pauses between rounds that failed: 1, 2, 4 … 30 s, from 1 s again where something was delivered in between."""

    next_s: float = 0.0
    delivered: int = 0

    def take(self, delivered: int) -> float:
        """The pause after a round, given how many notes were made so far."""
        if delivered != self.delivered or not self.next_s:
            self.delivered, self.next_s = delivered, FIRST_PAUSE_S
        pause, self.next_s = self.next_s, min(2 * self.next_s, LONGEST_PAUSE_S)
        return pause


@dataclass
class _Course:
    """What the thread knows from one round to the next.

    Attributes:
        follower: reads the records.
        delivery: delivers; None until MLflow was reached.
        open: keys of the runs that may lack something.
        closing: whether the search is over, so that what is left open is no longer running.
        front: by trial, where it lay when it was last looked at.
        search: the records as they were last read.
        reading_s: how long that took.
        parent_at: when the parent run was summed up for the last time, on the monotonic clock; None: never.
        parent_s: how long that took.
    """

    follower: Follower
    delivery: Delivery | None = None
    open: set[str] = field(default_factory=lambda: {PARENT})
    closing: bool = False
    front: dict[str, str] = field(default_factory=dict)
    search: SearchRecords | None = None
    reading_s: float = 0.0
    parent_at: float | None = None
    parent_s: float = 0.0

    @property
    def notes(self) -> int:
        """How many answers of MLflow were noted."""
        return 0 if self.delivery is None else self.delivery.memory.notes

    def views(self, closing: bool) -> list[RunView]:
        """The runs that may lack something, as they should stand."""
        begun_at = time.monotonic()
        search, changed = self.follower.read()
        self.search, self.reading_s = search, time.monotonic() - begun_at
        state = state_of(search) if closing else "running"
        if closing and not self.closing:
            changed, self.closing = set(search.trials), True
        self.open |= changed
        if not changed and not self.open:
            return []
        if changed:
            self.open.add(PARENT)
        # First, since a new trial can push older ones from the front, which are open then too.
        parent = self._parent(search, state, closing)
        begun = {t.id: t for t in search.trials.values() if t.attempts or t.ended is not None}
        return [
            *parent,
            *(project_trial(search, begun[key], state, self.front) for key in sorted(self.open & set(begun))),
        ]

    def _parent(self, search: SearchRecords, state: State, closing: bool) -> list[RunView]:
        """The parent run, until it exists and when the search is over; now and then in between."""
        there = self.delivery is not None and self.delivery.memory.of(PARENT).run_id is not None
        now, every = time.monotonic(), max(PARENT_EVERY_S, PARENT_SHARE * self.parent_s)
        if there and not closing and (PARENT not in self.open or now - (self.parent_at or -every) < every):
            return []
        board = placed(search)
        front = fronts(board)
        self.open |= {key for key, place in front.items() if self.front.get(key) != place}
        self.front = front
        view = project_parent(search, state, board)
        self.parent_at = time.monotonic()
        self.parent_s = self.parent_at - now
        return [view]

    def settle(self, views: list[RunView], memory: DeliveredLog) -> None:
        """Take those out that lack nothing."""
        done = {view.key for view in views if not remaining(view, memory.of(view.key)).operations}
        self.open -= done


class DeliveryThread:
    """Brings the records of a search to MLflow while it runs.

    Args:
        folder: of the search.
        uri: MLflow's tracking URI.
        experiment: name of the experiment.
        connector: from a URI to a server.
    """

    def __init__(self, folder: places.StoragePath, uri: str, experiment: str, connector: Connect = connect) -> None:
        prepare_process()
        self.folder = folder
        self.uri = uri
        self.experiment = experiment
        self.connector = connector
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._left: Undelivered | None = None
        self._reason, self._told = "", -TELL_EVERY_S

    def start(self) -> None:
        """Begin to deliver, in a daemon thread of its own. Returns at once."""
        self._thread.start()

    def finish(self, timeout_s: float) -> Undelivered:
        """Deliver what is left, and end. Never raises.

        Args:
            timeout_s: seconds to wait at most; whatever MLflow does, it does not take longer.
        """
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self._given_up.set()
        return self._left if self._left is not None else self._counted()

    def _counted(self) -> Undelivered:
        """What waits by the files alone: the thread may still hang in a call."""
        reason = self._reason or "there was no answer in time"
        parent = None
        try:
            memory = DeliveredLog.read(memory_folder(self.folder, self.uri))
            parent = memory.of(PARENT).run_id
            search = read_search(self.folder)
            return Undelivered(waiting(project(search, state_of(search)), memory), parent, reason)
        except Exception as error:  # noqa: BLE001 - a search that is over does not fail for the sake of a count
            return Undelivered(1, parent, masked(f"{reason}; the records cannot be read: {one_line(error)}", self.uri))

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with contextlib.ExitStack() as held:
            course, pauses = _Course(Follower(self.folder)), _Pauses()
            while not self._given_up.is_set():
                closing = self._closing.is_set()
                try:
                    done = self._round(course, closing, held)
                    pauses = _Pauses()
                    # Reading a long search must not keep a core busy.
                    pause = max(LOOK_EVERY_S, READING_SHARE * course.reading_s)
                except Exception as error:  # noqa: BLE001 - the search goes on, whatever happens here
                    line, before = masked(one_line(error), self.uri), self._reason
                    self._tell(line)
                    # What MLflow has refused twice it would refuse again; what else it says can pass.
                    done, pause = isinstance(error, RefusedError) and line == before, pauses.take(course.notes)
                if closing and done:
                    return
                if closing:
                    self._given_up.wait(min(pause, LONGEST_PAUSE_S))
                elif self._closing.wait(pause):
                    pauses = _Pauses()

    def _round(self, course: _Course, closing: bool, held: contextlib.ExitStack) -> bool:
        """Read what is new and deliver it; whether nothing is left to be done."""
        views = course.views(closing)
        if course.delivery is None and course.search is not None:
            course.delivery = self._opened(course.search, held)
        delivery = course.delivery
        if delivery is None:
            return False
        if views or delivery.unsettled:
            delivery.send(views)
            course.settle(views, delivery.memory)
        if closing and course.search is not None:
            delivery.retag(_views(course.search))
        for refusal in delivery.refused.values():
            self._tell(masked(f"it refused {refusal}", self.uri))
        return not closing or self._closed(views, delivery)

    def _closed(self, views: list[RunView], delivery: Delivery) -> bool:
        """Whether all was delivered of a search that is over; what is refused now would be refused again."""
        left = waiting(views, delivery.memory)
        if left and not delivery.refused:
            return False
        if delivery.unsettled:
            delivery.settle()
        reason = masked(next(iter(delivery.refused.values()), ""), self.uri)
        self._left = Undelivered(left, delivery.memory.of(PARENT).run_id, reason)
        return True

    def _opened(self, search: SearchRecords, held: contextlib.ExitStack) -> Delivery:
        folder = memory_folder(self.folder, self.uri)
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_writer(folder))
            memory = stack.enter_context(contextlib.closing(DeliveredLog.read(folder)))
            place = _place(search, self.uri, self.experiment)
            delivery = Delivery(self.connector(self.uri), place, memory, self._given_up.is_set)
            held.push(stack.pop_all())
        return delivery

    def _tell(self, line: str) -> None:
        """One line in the log, at most once a minute."""
        self._reason = line
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self._told = time.monotonic()
            LOGGER.warning("MLflow at %s: %s (the search continues; its records are kept)", masked(self.uri), line)


def undelivered(search: SearchRecords, running: bool) -> int | None:
    """How much of a search its MLflow has not got, by what was noted on this machine; nothing is asked of MLflow.

    Args:
        search: its records.
        running: whether somebody runs it now.

    Returns:
        Operations that wait (see `Rest.operations`); None where nothing was delivered from this machine yet.
    """
    folder = memory_folder(search.folder, search.tracking_uri)
    if not folder.is_dir():
        return None
    return waiting(project(search, "running" if running else state_of(search)), DeliveredLog.read(folder))


def _place(search: SearchRecords, uri: str, experiment: str) -> Destination:
    identity = str(search.definition["id"])
    if not identity.isalnum():
        raise UserError(f"the search {search.name!r} has no valid id")
    return Destination(identity, experiment, artifact_root(search.folder.parent.parent, uri), _views(search))


def _views(search: SearchRecords) -> dict[str, str]:
    """The tags that hold the views of a search; the holes that mattered come first once that is known."""
    return {**search_tags(search.definition, weights_in(search.folder / PICTURES)), **searches_tag(search.definition)}


def sync(folder: places.StoragePath, uri: str | None = None, connector: Connect = connect) -> Delivered:
    """Deliver everything of a search that MLflow has not got, in the foreground.

    Args:
        folder: of the search.
        uri: MLflow's tracking URI; None: the search's own.
        connector: from a URI to a server.

    Returns:
        What was sent; nothing where all was there.

    Raises:
        UserError: there is no such search.
        TrackingError: MLflow cannot be reached or refused something, or another process delivers now.
    """
    prepare_process()
    search = read_search(folder)
    uri = absolute_sqlite(uri) if uri else search.tracking_uri
    place = _place(search, uri, str(search.definition["experiment"]))
    where = f"MLflow at {masked(uri)}"
    memory_at = memory_folder(folder, uri)
    try:
        with only_writer(memory_at), contextlib.closing(DeliveredLog.read(memory_at)) as memory:
            delivery = Delivery(connector(uri), place, memory)
            _patiently(delivery, project(search, state_of(search)))
    except BusyError as error:
        raise TrackingError(f"{where}: {error}; a running search delivers on its own") from error
    except (FilesError, UnreachableError, RefusedError, OSError) as error:
        raise TrackingError(masked(f"{where} {_VERBS.get(type(error), 'fails')}: {one_line(error)}", uri)) from error
    if delivery.refused:
        raise TrackingError(masked(f"{where} refused {next(iter(delivery.refused.values()))}", uri))
    return delivery.sent


def _patiently(delivery: Delivery, views: list[RunView]) -> None:
    """Deliver; a server that has not answered a few times in a row is not asked any more."""
    pauses, failures, before = _Pauses(), 0, delivery.memory.notes
    while True:
        try:
            delivery.send(views)
            return
        except UnreachableError:
            notes = delivery.memory.notes
            failures = failures + 1 if notes == before else 1
            before = notes
            if failures == SYNC_ATTEMPTS:
                raise
            time.sleep(pauses.take(notes))
