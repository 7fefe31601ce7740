"""A segment of training with a content address: provides any of its states, replayed from the nearest stored one.

The first trajectory, a phase that trains (a growing penalty, say) and every retraining are segments. A segment knows
where it begins (lazily: nothing before it is computed while a state of its own is stored), how it is trained, and which
of its steps will be asked for.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.storage.manifests import Key, note_early_end, read_early_end, rests_on
from prune_search.storage.places import StoragePath
from prune_search.storage.states import (
    State,
    StorageError,
    list_states,
    newest_state,
    remove_state,
    state_folder,
    write_state,
)
from prune_search.tasks.fusion import restructured
from prune_search.tasks.shards import is_shard, resharded
from prune_search.tasks.workers import Word
from prune_search.training.background import Background
from prune_search.training.course_tensors import OPTIMIZER, hook_tensors, load_course
from prune_search.training.loop import Course, Network, train
from prune_search.training.optimizers import state_tensors
from prune_search.training.sharded_states import ShardedStates
from prune_search.training.state_store import LackingError, PreemptedError, StateStore

logger = logging.getLogger("prune_search")

MODEL = "model/"
GRID = 10
# What the states on the first trajectory may take together, where a space can ask for many of its steps.
MAX_GRID_BYTES = 256 * 2**20
RECOVERY_EVERY_S = 20.0
# States from this size on are written beside the training.
BESIDE_FROM_BYTES = 16 * 2**20


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers as named copies."""
    resharded(model)
    return {MODEL + name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy named weights and buffers, shaped like the model's [...], into a model.

    Where layers of theirs were fused, the model is brought into that structure first, and else back into its own.

    They are copied into the memory that the model has, so that its alignment, on which the last bits of a matrix
    product can depend, is always torch's own.

    Raises:
        KeyError: one is missing.
    """
    restructured(model, tensors, MODEL)
    resharded(model)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            tensor.copy_(tensors[MODEL + name])


@dataclass
class Segment:
    """One segment of training.

    Attributes:
        name: for people.
        address: sha256 of everything that its states depend on.
        total: steps, at most (a hook can end it earlier).
        begin: gives the state at step 0.
        course: from the loaded network to how it is trained.
        network: the network it is trained in.
        store: where its states lie.
        asked: steps that will be asked for, stored on the way.
        grid: whether states between are kept for later searches.
        place: where it stands in its recipe, for the ledger.
    """

    name: str
    address: str
    total: int
    begin: Callable[[], Mapping[str, Tensor]]
    course: Callable[[], Course]
    network: Network
    store: StateStore
    asked: tuple[int, ...] = ()
    grid: bool = False
    place: str = ""
    _known: dict[int, State] = field(default_factory=dict)
    _ended: int | None = None
    _rests_on: set[Key] = field(default_factory=set)

    def end(self) -> State:
        """The last state."""
        return self.at(self.total)

    def at(self, step: int) -> State:
        """The state at a step: known, stored, or trained from the nearest one before it.

        Raises:
            LackingError: somebody else is training it.
        """
        state = self._at(min(step, self.length))
        # Only now an early end is known.
        self.store.asked_for(self.address, min(step, self.length))
        return state

    def _at(self, step: int) -> State:
        if step in self._known:
            return self._known[step]
        start, state = self._nearest(step)
        if state is None:
            # What this rests on comes first, so that a claim is held for no longer than its own steps take.
            with self.store.noting(self._rests_on):
                state = State(dict(self.begin()), {})
            self.store.workers.same([one for one in state.tensors.values() if not is_shard(one)])
        if not self._leads_to(start, state, step):
            with self._claimed(step):
                if self.store.shared:
                    # Whoever had the claim before can have stored more in the meantime.
                    later, found = self._nearest(step)
                    start, state = (later, found) if found is not None and later > start else (start, state)
                if not self._leads_to(start, state, step):
                    return self._train(state, start, step)
        self._remember(start, state)
        return state

    def _leads_to(self, start: int, state: State, step: int) -> bool:
        """Whether the state at `start` is the one asked for as `step`: that one, or the early end."""
        return start >= step or bool(state.meta.get("ended"))

    def _nearest(self, step: int) -> tuple[int, State | None]:
        """The nearest state at or before a step, known or stored; none at step 0 where there is none."""
        stored: list[State] = []

        def look() -> tuple[int, dict[str, Any] | None]:
            folder = self.store.vertex(self.address)
            found = newest_state(folder, step) if folder is not None else None
            near = max((known for known in self._known if known <= step), default=-1)
            if found is None or found[0] <= near:
                return near, None
            stored.append(found[1])
            return found[0], found[1].meta

        near, meta = self.store.workers.agreed(look)
        if meta is not None:
            return near, self._told(stored, meta)
        return (near, self._known[near]) if near >= 0 else (0, None)

    def _told(self, stored: list[State], meta: dict[str, Any]) -> State:
        """The state that the first worker has read, on all of them."""
        if not self.store.workers.several:
            return stored[0]
        if self.store.shards is not None:
            return State(self.store.shards.divided(stored[0].tensors if stored else None), meta)
        return State(self.store.workers.sent(stored[0].tensors if stored else None), meta)

    @contextlib.contextmanager
    def _claimed(self, step: int) -> Iterator[None]:
        """Hold the segment while it is trained further than it is stored; a replay needs no claim."""
        claims = self.store.claims

        def take() -> bool:
            if claims is None or (claims.replays and self._furthest() > step):
                return False
            if not claims.take(self.address):
                raise LackingError(self.address, step)
            return True

        taken = self.store.workers.agreed(take)
        try:
            yield
        finally:
            if taken and claims is not None:
                claims.give(self.address)

    @property
    def length(self) -> int:
        """Steps to its end, as far as that is known."""
        return self.total if self._ended is None else self._ended

    def known_length(self) -> int:
        """Steps to its end, after a look at whether a stored end is an early one."""
        if self._ended is not None:
            return self._ended
        stored: list[State] = []

        def look() -> tuple[int, dict[str, Any] | None]:
            folder = self.store.vertex(self.address)
            found = newest_state(folder, self.total) if folder is not None else None
            if found is not None and found[1].meta.get("ended"):
                stored.append(found[1])
                return found[0], found[1].meta
            # Where the end was removed, the note counts for the account alone: nothing is trained by it.
            noted = None if folder is None else read_early_end(folder, self.total)
            return noted or self.length, None

        length, meta = self.store.workers.agreed(look)
        if meta is not None:
            self._ended = length
            if length not in self._known:
                self._known[length] = self._told(stored, meta)
        return length

    def _remember(self, step: int, state: State) -> None:
        self._known[step] = state
        if state.meta.get("ended"):
            self._ended = step
        if self.store.reached is not None:
            # Nothing comes after an early end: whoever asks for the whole segment has it.
            self.store.reached(self.place, self.total if state.meta.get("ended") else step)

    def _train(self, state: State, start: int, stop: int) -> State:
        # Making the course can find a mask or train what it rests on in this same network: the state comes after it.
        with self.store.noting(self._rests_on):
            course = self.course()
            if restructured(self.network.model, state.tensors, MODEL):
                # It was made for the network that what it rests on has left: others of its layers were fused there.
                course = self.course()
        self._rests_on |= rests_on(state.meta)
        load_model(self.network.model, state.tensors)
        names = {parameter: name for name, parameter in self.network.model.named_parameters()}
        names.update({parameter: name for name, parameter in course.further.items()})
        load_course(course, names, state.tensors)
        # What is asked for lies before a state that is known: it is replayed. (A state that another run stores while
        # this one trains the same steps makes no replay of them.)
        replay = self.store.workers.agreed(lambda: self._furthest() > stop)
        writer = _Writer(self, course, names, start, replay)
        if self.store.stage is not None:
            self.store.stage(self.name, self.total)
        try:
            final, reached = self._trained(course, writer, start, stop)
        except BaseException:
            # Nobody else takes the segment over while something of it is still being written.
            with contextlib.suppress(Exception):
                writer.wait()
            raise
        finally:
            course.feed.close()
        writer.close()
        writer.clean(reached)
        if final.meta["ended"] and reached < self.total and writer.folder is not None:
            note_early_end(writer.folder, reached)
        self._remember(reached, final)
        return final

    def _trained(self, course: Course, writer: _Writer, start: int, stop: int) -> tuple[State, int]:
        """Train from `start` to `stop`; the state there, which is stored, and the step."""
        reached = start
        for goal in sorted({stop, *(step for step in (*self.asked, *self.grid_steps()) if start < step < stop)}):
            reached = train(self.network, course, reached, goal, writer.on_step)
            if reached < goal or course.finished(reached):
                break
            if goal < stop:
                writer.write(goal, ended=False, then=functools.partial(self._remember_asked, goal))
        ended = reached == self.total or course.finished(reached)
        if ended:
            for hook in course.hooks:
                if hook.at_end is not None:
                    hook.at_end()
        writer.wait()
        if not writer.replay and self._furthest() >= reached:
            # Nobody had it when this began: it was trained elsewhere at the same time.
            self.store.steps.repeated += reached - start
        final = writer.write(reached, ended)
        writer.wait()
        return final, reached

    def _remember_asked(self, step: int, state: State) -> None:
        if step in self.asked:
            self._remember(step, state)
        elif self.store.reached is not None:
            self.store.reached(self.place, step)

    def _furthest(self) -> int:
        """The furthest step that some state is known of."""
        folder = self.store.vertex(self.address)
        stored = [step for step, _ in _stored(folder)]
        return max([*stored, *self._known, 0])

    def grid_steps(self) -> tuple[int, ...]:
        """The steps whose states are kept for others: a coarse grid, what others ask for, and what they may ask for.

        Of very many of the last, evenly chosen ones as far as `MAX_GRID_BYTES` go: the others are replayed.
        """
        if not self.grid:
            return ()
        coarse = {round(self.total * part / GRID) for part in range(1, GRID)}
        grid = sorted({step for step in self.store.grid if 0 < step < self.total})
        affordable = max(GRID, MAX_GRID_BYTES // max(1, self._state_bytes()))
        if len(grid) > affordable:
            grid = [grid[(2 * index + 1) * len(grid) // (2 * affordable)] for index in range(affordable)]
        stops = {step for step in self.store.stops if 0 < step < self.total}
        return tuple(sorted({*coarse, *stops, *grid} - {0, self.total}))

    def _state_bytes(self) -> int:
        """What a state takes, about: weights, buffers and as much again for the optimizer."""
        return 2 * sum(int(tensor.nbytes) for tensor in self.network.model.state_dict().values())


class _Writer:
    """Stores states of a segment while it is trained, and now and then one to recover from.

    A state is copied in memory, and a large one is written beside the training: a small one is written sooner than a
    step is trained, and a kill loses no step that it could have kept. It counts as stored once it is: whoever is told
    of it is told then, at the next step, the next state or the end of the segment.
    """

    def __init__(
        self, segment: Segment, course: Course, names: Mapping[nn.Parameter, str], start: int, replay: bool
    ) -> None:
        self.replay = replay
        self.segment = segment
        self.course = course
        self.names = names
        self.folder = segment.store.vertex(segment.address)
        self.start = start
        self.begun = self.last_step = time.monotonic()
        self.last = time.monotonic()
        # The step of the newest state that is there to recover from, and whether the last state could be stored.
        self.recovery = -1
        self.stored = False
        self._beside = Background()
        # Every worker has a part of what is stored: the first one says when.
        self._due = Word(segment.store.workers) if segment.store.shards is not None else None
        self._said = False

    def wait(self) -> None:
        """Wait until what is being written is stored, or cannot be."""
        self._beside.wait()

    def close(self) -> None:
        """Nothing more is said to other workers."""
        if self._due is not None:
            self._due.heard()

    def on_step(self, step: int, loss: Tensor) -> None:
        """Called after each finished step."""
        store = self.segment.store
        self.last_step = time.monotonic()
        store.steps.trained += 1
        store.steps.replayed += self.replay
        self._beside.look()
        try:
            try:
                if store.progress is not None:
                    store.progress(step, self.segment.total, loss)
            finally:
                # Also where the trial ends here: it continues from the step after this one.
                if store.watch is not None:
                    store.watch(self.segment.address, step, lambda: hook_tensors(self.course.hooks))
        except PreemptedError:
            if step < self.segment.total:
                self.write(step, ended=False)
                self.wait()
            raise
        due = self.folder is not None and time.monotonic() - self.last > RECOVERY_EVERY_S
        if self._due is not None:
            # It is said once: the others hear it a step later, and only then is the state written.
            self._said = due and not self._said
            due = self._due.passed_on(self._said)
        # The state of an end is stored by whoever ends the segment, as one.
        if due and step < self.segment.total and not self.course.finished(step):
            self.write(step, ended=False, then=lambda state: self._recoverable(step))

    def _recoverable(self, step: int) -> None:
        self.clean(step)
        self.recovery = step

    def write(self, step: int, ended: bool, then: Callable[[State], None] | None = None) -> State:
        """Store the state at `step` beside the training; where the storage fails, go on with the one in memory.

        Args:
            step: that is reached.
            ended: whether nothing comes after it.
            then: called with the state when it is stored, or cannot be.
        """
        # Never more than one copy waits to be written.
        self.wait()
        tensors = {**model_tensors(self.segment.network.model), **hook_tensors(self.course.hooks)}
        if not ended:
            # Nothing continues from an end: the next segment starts with optimizer buffers at zero.
            buffers = state_tensors(self.course.optimizer, self.names)
            tensors.update({OPTIMIZER + key: value.detach().clone() for key, value in buffers.items()})
        meta: dict[str, Any] = {"step": step, "ended": ended, "stretch": self.segment.name}
        meta["rests_on"] = sorted([address, at] for address, at in self.segment._rests_on)
        meta["seconds_per_step"] = round((self.last_step - self.begun) / max(1, step - self.start), 6)
        meta["environment"] = dict(self.segment.store.environment)
        state, trained = State(tensors, meta), self.segment.store.steps.trained

        def done(error: BaseException | None) -> None:
            self.stored = error is None and self.folder is not None
            if self.stored:
                self.segment.store.steps.stored = trained
            elif isinstance(error, StorageError):
                logger.warning("%s; continuing without it", error)
            elif error is not None:
                raise error
            if then is not None:
                then(state)

        shards = self.segment.store.shards
        if shards is not None:
            # At once: the others wait to send what they hold.
            done(self._write_shards(shards, state, ended and step == self.start))
        elif self.folder is None:
            done(None)
        else:
            write = functools.partial(self._write, self.folder, state, ended and step == self.start)
            self._beside.start(write, done)
            if sum(int(tensor.nbytes) for tensor in tensors.values()) < BESIDE_FROM_BYTES:
                self.wait()
        self.last = time.monotonic()
        return state

    def _write(self, vertex: StoragePath, state: State, anew: bool) -> None:
        folder = state_folder(vertex, state.meta["step"])
        if anew:
            # The state that was gone on from was none of an end, and a valid state is never written over.
            _forget(folder)
        write_state(folder, state.tensors, state.meta)

    def _write_shards(self, shards: ShardedStates, state: State, anew: bool) -> StorageError | None:
        folder = None if self.folder is None else state_folder(self.folder, state.meta["step"])
        if anew and folder is not None:
            _forget(folder)
        try:
            shards.write(folder, state.tensors, state.meta, self._listed(state))
        except StorageError as error:
            return error
        return None

    def _listed(self, state: State) -> set[str]:
        """The shards of what is trained in the place of weights, the scores of single weights, and their buffers.

        Where every worker has them whole they are lists.
        """
        trained = self.course.further
        shards = (key for key, one in state.tensors.items() if is_shard(one) and not key.startswith(MODEL))
        return {key for key in shards if any(part in trained for part in key.split("/"))}

    def clean(self, newest: int) -> None:
        """Remove the states that were only there to recover from, now that the one at `newest` is stored.

        On a grid another trial may have asked for a state, so that only this writer's own are removed; elsewhere also
        those of a process that was killed.
        """
        if self.folder is None or not self.stored:
            return
        kept = {*self.segment.asked, *self.segment.grid_steps(), newest}
        for step, folder in _stored(self.folder):
            if step not in kept and (step == self.recovery or not self.segment.grid):
                _forget(folder)


def _stored(folder: StoragePath | None) -> list[tuple[int, StoragePath]]:
    """The stored states of a segment; none where the storage is away."""
    try:
        return list_states(folder) if folder is not None else []
    except StorageError as error:
        logger.warning("%s; continuing without it", error)
        return []


def _forget(folder: StoragePath) -> None:
    """Remove a state that nobody needs any more; one that cannot be removed does no harm."""
    try:
        remove_state(folder)
    except StorageError as error:
        logger.warning("%s; continuing without it", error)
