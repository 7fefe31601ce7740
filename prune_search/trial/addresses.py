"""The branch of a recipe in the shared tree: every segment of training with its content address. No torch.

The tree has a vertex for each distinct segment. Its root hashes what trajectory 1 rests on; a later vertex hashes what
it does and what it rests on, so that two recipes that share a beginning, or their first rounds, share the vertices.
What a trial trains, what a plan counts and what the driver waits for are all read off this one branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from prune_search.pruning.mask.counts import keep_share
from prune_search.recipe import axes
from prune_search.recipe.blocks import Mask
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.step import END

TRAIN = "train"


@dataclass(frozen=True)
class Vertex:
    """One segment of training.

    Attributes:
        place: where it stands on the branch: ``train``, ``prepare.R``, ``mask.R`` (a criterion that trains),
            ``transform.R.INDEX``, ``retrain.R``, ``control.R``, with R the round from 1. ``mask.R`` is also the search
            of a scope that tries fractions in episodes.
        address: sha256 of everything that its states depend on.
        steps: its length in iterations, at most (a hook can end it earlier).
        needed: how far this recipe asks for it, in iterations.
        at_most: whether that is the most that it can ask for: how far shows on the way.
    """

    place: str
    address: str
    steps: int
    needed: int
    at_most: bool = False


@dataclass(frozen=True)
class Adjustment:
    """One entry of ``weights.transform``, with the address of the weights that it leaves.

    Attributes:
        index: in the list.
        named: the registered transform.
        address: of the weights after it.
        penalty: the L2 penalty that ``mask.prepare`` left on every weight; 0 elsewhere.
        vertex: where it trains; None where it takes no steps.
    """

    index: int
    named: Named
    address: str
    penalty: Decimal
    vertex: Vertex | None

    @property
    def path(self) -> str:
        """Where the recipe has it."""
        return f"weights.transform.{self.index}"


@dataclass(frozen=True)
class RoundBranch:
    """The addresses of one round.

    Attributes:
        number: r, from 1.
        share: kept share of the units in scope that the round asks for, 0 to 1; None where the scope decides it or
            it is learned.
        prepare: ``mask.prepare``, or None.
        learn: the training of the criterion's scores, or the scope's search in episodes, or None.
        mask: the address of the mask.
        adjustments: ``weights.transform``.
        retrain: the retraining; of no steps where there is none.
        control: with dynamics and a control, the training of the static mask.
        goes_on: whether the weights are those of the network that the mask was learned on: nothing is rewound.
    """

    number: int
    share: Decimal | None
    prepare: Vertex | None
    learn: Vertex | None
    mask: str
    adjustments: tuple[Adjustment, ...]
    retrain: Vertex
    control: Vertex | None
    goes_on: bool = False

    def vertices(self) -> Iterator[Vertex]:
        """In the order in which they are trained."""
        if self.prepare is not None:
            yield self.prepare
        if self.learn is not None:
            yield self.learn
        yield from (item.vertex for item in self.adjustments if item.vertex is not None)
        yield self.retrain
        if self.control is not None:
            yield self.control


@dataclass(frozen=True)
class Branch:
    """A recipe's branch.

    Attributes:
        train: trajectory 1.
        rounds: round 1 first.
    """

    train: Vertex
    rounds: tuple[RoundBranch, ...]

    def vertices(self) -> list[Vertex]:
        """Every segment with steps, in the order in which a trial trains them."""
        everything = [self.train, *(vertex for item in self.rounds for vertex in item.vertices())]
        return [vertex for vertex in everything if vertex.needed > 0]


def branch_of(recipe: Recipe, timeline: Timeline, root: str, teacher: str | None = None) -> Branch:
    """The branch of a recipe.

    Args:
        recipe: canonical.
        timeline: its places in iterations.
        root: the address of trajectory 1 (`setup.TrialSetup.root`, or `nominal_root` before anything is read).
        teacher: the digest of a teacher that comes from a folder; None where there is none, or before it is read.
    """
    # With train.from the given weights are w(K): a segment of no steps.
    steps, needed = (timeline.total, timeline.trained) if recipe.train.start is None else (0, 0)
    train = Vertex(TRAIN, root, steps, needed, recipe.mask.stable is not None)
    rounds: list[RoundBranch] = []
    for number in range(1, recipe.rounds + 1):
        rounds.append(_Grower(recipe, timeline, train, rounds[-1] if rounds else None, number, teacher).round())
    return Branch(train, tuple(rounds))


def nominal_root(recipe: Recipe, timeline: Timeline) -> str:
    """What stands for the address of trajectory 1 where neither data nor network were read.

    Within one search, on machines of one kind, two recipes share it just where they share trajectory 1.
    """
    train = {key: value for key, value in recipe.train.written.items() if key != "steps"}
    return digest_of({"kind": "nominal", "task": recipe.task.written, "train": train, "steps": timeline.total})


def nominal_branch(recipe: Recipe, epoch: int) -> tuple[Timeline, Branch]:
    """A recipe's branch before anything is read: its addresses tell vertices of one search apart.

    Raises:
        UserError: a place of the recipe does not fit the clock.
    """
    timeline = resolve(recipe, epoch)
    return timeline, branch_of(recipe, timeline, nominal_root(recipe, timeline))


@dataclass(frozen=True)
class _Grower:
    """Computes the addresses of one round from what it rests on."""

    recipe: Recipe
    timeline: Timeline
    train: Vertex
    before: RoundBranch | None
    number: int
    teacher: str | None = None

    @property
    def source(self) -> Vertex:
        """The trajectory on which the mask is found."""
        return self.before.retrain if self.before is not None else self.train

    @property
    def k1(self) -> int:
        return self.timeline.k1 if self.before is None else self.source.steps

    @property
    def last(self) -> bool:
        return self.number == self.recipe.rounds

    @property
    def moves(self) -> bool:
        """Whether the retraining moves the mask."""
        return self.recipe.retrain is not None and self.recipe.retrain.dynamics is not None

    def round(self) -> RoundBranch:
        sparsity, control_by = self.recipe.mask.sparsity, self.recipe.mask.control
        told = not (sparsity.learned or sparsity.by_scope or sparsity.layers is not None or sparsity.budget is not None)
        share = keep_share(sparsity, self.number, self.recipe.rounds) if told else None
        prepare, penalty = self._prepare()
        learn = self._learn(share, prepare)
        mask = self._mask(share, prepare)
        # A search in episodes leaves the weights as they were.
        learns = self.recipe.mask.criterion.entry(axes.CRITERIA).facts.trains
        goes_on = learn if self.stays and learns else None
        weights, adjustments = self._adjustments(mask, goes_on or prepare, penalty, goes_on is not None)
        retrain = self._retrain("retrain", weights, share, self.moves)
        control = None
        if self.moves and self.last and control_by is not None:
            parts = {"kind": "control", "moved": retrain.address, "control": control_by.written}
            control = self._retrain("control", digest_of(parts), share, False)
        return RoundBranch(self.number, share, prepare, learn, mask, adjustments, retrain, control, goes_on is not None)

    def _prepare(self) -> tuple[Vertex | None, Decimal]:
        named = self.recipe.mask.prepare
        if named is None:
            return None, Decimal(0)
        address = digest_of({"kind": "prepare", "source": self.source.address, "at": self.k1, "entry": named.written})
        left = named.entry(axes.TRANSFORMS).facts.leaves_penalty(**named.options)
        return self._phase(f"prepare.{self.number}", address, named, Decimal(0)), left

    def _phase(self, place: str, address: str, named: Named, penalty: Decimal) -> Vertex:
        steps = phase_length(named, self.timeline.epoch, penalty)
        return Vertex(place, address, steps, steps)

    def _learn(self, share: Decimal | None, prepare: Vertex | None) -> Vertex | None:
        """The training of the criterion's scores; of other shares and scopes the same, where they play no part."""
        mask, named = self.recipe.mask, self.recipe.mask.criterion
        facts = named.entry(axes.CRITERIA).facts
        if not facts.trains or facts.length is None:
            return self._search(prepare)
        parts = _written(mask, "criterion", "granularity")
        parts.update(loss=mask.score.written["loss"], exclude=mask.scope.options.get("exclude"))
        if facts.of_share(**named.options):
            parts.update(_written(mask, "scope", "rounding", "ties"))
            parts["share"] = mask.written.get("sparsity") if share is None else str(share)
        source = {"source": self.source.address, "at": self.k1, "prepared": prepare.address if prepare else None}
        previous = self.before.mask if self.before else None
        address = digest_of({"kind": "learn", **source, "mask": parts, "previous": previous})
        steps = facts.length(self.timeline.epoch, **named.options)
        return Vertex(f"mask.{self.number}", address, steps, steps)

    def _search(self, prepare: Vertex | None) -> Vertex | None:
        """The search of a scope that tries fractions in episodes."""
        mask, named = self.recipe.mask, self.recipe.mask.scope
        facts = named.entry(axes.SCOPES).facts
        if not facts.searches or facts.length is None:
            return None
        parts = _written(mask, "criterion", "score", "scope", "granularity", "rounding", "ties")
        source = {"source": self.source.address, "at": self.k1, "prepared": prepare.address if prepare else None}
        steps = facts.length(self.timeline.epoch, **named.options)
        return Vertex(f"mask.{self.number}", digest_of({"kind": "search", **source, "mask": parts}), steps, steps)

    @property
    def stays(self) -> bool:
        """Whether the weights are taken where the mask is found, so that nothing is rewound."""
        at, mask, line = self.recipe.weights.at, self.recipe.mask, self.timeline
        if at == "prepared":
            return True
        if mask.prepare is not None:
            return False
        if at == END:
            return mask.at == END or self.k1 == self.source.steps
        return self.before is None and line.k2 == line.k1

    def _mask(self, share: Decimal | None, prepare: Vertex | None) -> str:
        mask = self.recipe.mask
        parts = _written(mask, "criterion", "score", "scope", "granularity", "rounding", "ties")
        parts["control"] = mask.control.written if mask.control and self.last and not self.moves else None
        prepared = prepare.address if prepare else None
        previous = self.before.mask if self.before else None
        found = mask.stable.written if mask.stable is not None else self.k1
        source = {"kind": "mask", "source": self.source.address, "at": found, "prepared": prepared}
        asked = _asked(share) if mask.sparsity.layers is None else f"{mask.sparsity.layers} layers"
        return digest_of({**source, "mask": parts, "share": asked, "previous": previous})

    def _adjustments(
        self, mask: str, before: Vertex | None, left: Decimal, goes_on: bool
    ) -> tuple[str, tuple[Adjustment, ...]]:
        """The address of f2(w(k2), m), and what leads there; `before` is where the mask was prepared or learned."""
        at = self.recipe.weights.at
        wherever = at == "mask" and self.recipe.mask.stable is not None
        k2 = "mask" if wherever else self.timeline.k2
        place = self.source.address if at == END else f"{self.train.address}@{k2}"
        penalty = Decimal(0)
        if (at == "prepared" or goes_on) and before is not None:
            place = before.address
            penalty = left if at == "prepared" else penalty
        address = digest_of({"kind": "weights", "mask": mask, "from": place})
        found: list[Adjustment] = []
        for index, named in enumerate(self.recipe.transforms):
            parts = {"kind": "transform", "from": address, "entry": named.written, "round": self.number}
            path = f"weights.transform.{index}"
            address = digest_of({**parts, "init": self.recipe.train.init.written, "place": path})
            vertex = None
            if named.entry(axes.TRANSFORMS).facts.trains:
                vertex = self._phase(f"transform.{self.number}.{index}", address, named, penalty)
            found.append(Adjustment(index, named, address, penalty, vertex))
        return address, tuple(found)

    def _retrain(self, name: str, address: str, share: Decimal | None, moves: bool) -> Vertex:
        line, retrain = self.timeline, self.recipe.retrain
        written = {} if retrain is None else retrain.written
        parts = {key: value for key, value in written.items() if key not in ("steps", "until", "dynamics")}
        if moves and retrain is not None and retrain.dynamics is not None:
            parts.update(dynamics=retrain.dynamics.written, share=_asked(share))
        loss = written.get("loss")
        if self.teacher is not None and isinstance(loss, Mapping):
            parts["loss"] = {**loss, "teacher": self.teacher}
        # The clock's schedule is in the root's address; places on it are resolved.
        parts.update(steps=line.retrain_steps, clock=line.clock if line.clock is not None else parts.get("clock"))
        if line.open and retrain is not None:
            clock = "mask" if retrain.clock == "mask" else parts["clock"]
            parts.update(clock=clock, lasts=written.get("steps"))
        whole = digest_of({"kind": "retrain", "from": address, "retrain": parts, "first": self.train.address})
        return Vertex(f"{name}.{self.number}", whole, line.retrain_steps, line.least_steps)


def _written(mask: Mask, *keys: str) -> dict[str, object]:
    """Some options of the mask as they are written; one that is left out is no part of an address."""
    return {key: mask.written[key] for key in keys if key in mask.written}


def _asked(share: Decimal | None) -> str:
    """What addresses say of the kept share; a scope that decides it is in them itself."""
    return "by scope" if share is None else str(share)


def phase_length(named: Named, epoch: int, penalty: Decimal) -> int:
    """Iterations of a transform that trains, at most.

    Args:
        named: the transform.
        epoch: iterations in an epoch.
        penalty: what ``mask.prepare`` left on every weight.
    """
    length = named.entry(axes.TRANSFORMS).facts.length
    return 0 if length is None else length(epoch, penalty, **named.options)
