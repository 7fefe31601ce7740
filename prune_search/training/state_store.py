"""Stores the states of a trial's segments, decides which trial trains them, and counts what was trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from prune_search.storage.manifests import Key
from prune_search.storage.names import vertex_folder
from prune_search.storage.places import StoragePath
from prune_search.tasks.workers import ALONE, Workers

if TYPE_CHECKING:
    from prune_search.training.sharded_states import ShardedStates

Progress = Callable[[int, int, Tensor], None]


class LackingError(Exception):
    """A segment is being trained by somebody else: the trial comes again when the state exists.

    Attributes:
        address: of the segment.
        step: that was asked for.
    """

    def __init__(self, address: str, step: int) -> None:
        super().__init__(f"step {step} of {address[:12]} is being trained by another trial")
        self.address = address
        self.step = step


class PreemptedError(Exception):
    """Somebody asked for the training to stop where it is: its state is stored, and it can go on from there."""


class PausedError(PreemptedError):
    """The scheduler lets the trial rest where it is.

    Attributes:
        at: what was measured there, as a ``measured`` record has it.
    """

    def __init__(self, at: Mapping[str, Any]) -> None:
        super().__init__("the trial is paused; its state is stored")
        self.at = at


class SegmentClaims(Protocol):
    """Who trains which segment, so that no two train the same. Never waits."""

    @property
    def replays(self) -> bool:
        """Whether steps may be trained again that lead to a state which is no longer stored."""

    def take(self, address: str) -> bool:
        """Claim a segment; False where somebody else who is alive has it."""

    def give(self, address: str) -> None:
        """Give a claim back."""


@dataclass
class Steps:
    """What was trained, in iterations.

    Attributes:
        trained: every step executed.
        replayed: those of them that lead to a step before a state that was known already.
        repeated: those of them that somebody else trained at the same time.
        stored: how many were trained when the last state was stored: what comes after is lost with the process.
        needed: what the recipe asks for, whoever trained it.
    """

    trained: int = 0
    replayed: int = 0
    repeated: int = 0
    stored: int = 0
    needed: int = 0

    @property
    def reused(self) -> int:
        """Steps that a stored state spared."""
        return max(0, self.needed - (self.trained - self.replayed))


@dataclass
class StateStore:
    """Where the states of segments lie, and what is told while they are trained.

    Attributes:
        folder: the storage; None keeps everything in memory.
        steps: the account of the trial.
        environment: the environment class, recorded in every state.
        progress: told (step, total, loss) after each step. It can raise `PreemptedError`: the state is then stored.
        stage: told the name of the segment that begins to be trained.
        watch: called after each step of a segment with the segment's address, the step, and a function that gives its
            hooks' tensors, named as in a state. It may look at the network, and must not change it.
        claims: asked before a segment is trained further than anybody has; None where nobody else trains.
        stops: further steps of trajectory 1 whose states others ask for; all are stored.
        grid: steps of it whose states others may ask for later; as many are stored as are affordable.
        reached: called with a segment's place and a step whose state is there now, trained or stored before.
        workers: that train the segments together. The first one alone reads and writes the folder, and asks the claims.
        shards: moves states to and from the shards of these workers; None where each has the whole network.
    """

    folder: StoragePath | None
    steps: Steps
    environment: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    stage: Callable[[str, int], None] | None = None
    watch: Callable[[str, int, Callable[[], Mapping[str, Tensor]]], None] | None = None
    claims: SegmentClaims | None = None
    stops: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    reached: Callable[[str, int], None] | None = None
    workers: Workers = ALONE
    shards: ShardedStates | None = None
    _asking: list[set[Key]] = field(default_factory=list)

    @contextlib.contextmanager
    def noting(self, rests_on: set[Key]) -> Iterator[None]:
        """Note the states (address, step) that are asked for meanwhile: what a segment rests on."""
        self._asking.append(rests_on)
        try:
            yield
        finally:
            self._asking.pop()

    def asked_for(self, address: str, step: int) -> None:
        """A state is asked for."""
        if self._asking:
            self._asking[-1].add((address, step))

    def vertex(self, address: str) -> StoragePath | None:
        """The folder of a segment; None where this process keeps none of its states."""
        return vertex_folder(self.folder, address) if self.folder is not None and self.workers.first else None

    @property
    def shared(self) -> bool:
        """Whether others can train the same segments at the same time."""
        return self.workers.agreed(lambda: self.claims is not None and self.folder is not None)
