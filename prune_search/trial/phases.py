"""The segments of a trial and the transforms of a round: what each one is given, and how trained ones are trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from torch import Tensor

from prune_search.pruning.mask.fused_masks import fitted
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.moved_weights import MovedWeights
from prune_search.pruning.mask.rule import MaskRule
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.pruning.weights.context import TransformContext
from prune_search.recipe import axes
from prune_search.recipe.recipe import Named
from prune_search.training.loop import Course, Network
from prune_search.training.phase import Phase
from prune_search.training.segment import MODEL, Segment, load_model, model_tensors
from prune_search.training.state_store import StateStore
from prune_search.trial.addresses import Vertex
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup

Tensors = Mapping[str, Tensor]
# Where a segment begins, and how it is trained.
How = tuple[Callable[[], Tensors], Callable[[], Course]]


def segment_of(
    setup: TrialSetup,
    store: StateStore,
    name: str,
    vertex: Vertex,
    how: How,
    asked: Collection[int] = (),
    grid: bool = False,
    network: Network | None = None,
) -> Segment:
    """A vertex of the branch as a segment of a trial's network. Nothing is trained yet.

    Args:
        setup: the recipe, the data and the network.
        store: where its states are stored.
        name: what the user is shown.
        vertex: its address and length.
        how: where it begins, and how it is trained.
        asked: steps whose states are needed, besides the vertex's own.
        grid: whether other trials may ask for further steps of it.
        network: that is trained; None: the trial's.
    """
    begin, course = how
    wanted = tuple(sorted({*asked, vertex.needed}))
    net = network or setup.network
    return Segment(name, vertex.address, vertex.steps, begin, course, net, store, wanted, grid, place=vertex.place)


def model_only(tensors: Tensors) -> Tensors:
    """The weights and buffers of a state; a phase starts with optimizer buffers at zero."""
    return {key: value for key, value in tensors.items() if key.startswith(MODEL)}


@dataclass(frozen=True)
class Transform:
    """A transform in its place in the recipe.

    Attributes:
        named: the registered transform.
        place: where the recipe has it: ``mask.prepare``, or ``weights.transform.INDEX``.
        penalty: the L2 penalty that ``mask.prepare`` left on every weight, for one that trains; 0 elsewhere.
    """

    named: Named
    place: str
    penalty: Decimal = Decimal(0)


@dataclass(frozen=True)
class RoundTransforms:
    """The transforms of one round.

    Attributes:
        setup: the recipe, the data and the network.
        store: where the states of those that train are stored.
        rule: the mask block.
        layers: names of the weights that take part.
        number: the round, from 1.
        removed: the mask of the round before, which stays removed while this round's transforms train; None in round 1.
        moved: what the criterion has moved while it found the mask, for the transform that would do so anew.
    """

    setup: TrialSetup
    store: StateStore
    rule: MaskRule
    layers: Callable[[], tuple[str, ...]]
    number: int
    removed: Callable[[], MaskSet] | None
    moved: dict[str, MovedWeights] = field(default_factory=dict)

    def context(self, item: Transform, masks: MaskSet | None) -> TransformContext:
        """What a transform is given; `masks` is None for ``mask.prepare``."""
        words = (item.place, self.number)
        return TransformContext(
            network=self.setup.network,
            masks=masks,
            rule=self.rule,
            layers=self.layers(),
            init=self.setup.recipe.train.init,
            seed=self.setup.recipe.seed,
            words=words,
            feed=lambda: self.setup.feed(*words),
            penalty=item.penalty,
            steps_per_epoch=self.setup.timeline.epoch,
            inputs=self.setup.data.train.first,
            calibration=lambda: scoring_data(self.setup, self.number).batches(1),
            moved=self.moved,
        )

    def segment(
        self,
        label: str,
        vertex: Vertex,
        item: Transform,
        weights: Callable[[], Tensors],
        masks: Callable[[], MaskSet | None],
    ) -> Segment:
        """The segment of a transform that trains, from some weights on.

        Args:
            label: what the user is shown.
            vertex: its address and length.
            item: the transform.
            weights: a state whose weights and buffers it begins with.
            masks: the mask of this round; None for ``mask.prepare``.
        """

        def course() -> Course:
            named = item.named
            phase = named.entry(axes.TRANSFORMS).build(Phase, self.context(item, masks()), **named.options)
            optimizer = self.setup.optimizer(phase.optimizer, words=(item.place, self.number))
            hooks = list(phase.hooks())
            if self.removed is not None:
                hooks.append(MaskKeeper(self.setup.model, self.removed(), optimizer).hook())
            return Course(optimizer, self.setup.feed(item.place, self.number), 0, phase.rate, hooks)

        return segment_of(self.setup, self.store, label, vertex, (lambda: model_only(weights()), course))

    def changed(self, item: Transform, weights: Callable[[], Tensors], masks: Callable[[], MaskSet]) -> Tensors:
        """What a transform that takes no steps makes of some weights."""
        found = masks()
        load_model(self.setup.model, weights())
        found = fitted(found, self.setup.model, self.setup.weights)
        item.named.entry(axes.TRANSFORMS).make(self.context(item, found), **item.named.options)
        return model_tensors(self.setup.model)
