"""What an entry of each axis declares about itself: one frozen dataclass per axis, typed with defaults.

A registration names only what differs from the default: ``@CRITERIA.register("snip", facts=Criterion(needs_data=True),
…)``. Functions among the facts take the entry's own options by keyword, written ``**options`` below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal


def _no_steps(score: object, **options: object) -> int:
    return 0


def _no_share(**options: object) -> bool:
    return False


def _untrained(**options: object) -> bool:
    return False


def _all_together(**options: object) -> bool:
    return False


def _every_layer(shape: tuple[int, ...], **options: object) -> bool:
    return True


def _at_once(total: int, epoch: int, **options: object) -> int:
    return 0


def _well_placed(total: int, epoch: int, **options: object) -> Iterable[tuple[str, str]]:
    return ()


def _constant_share(share: float, total: int, epoch: int, **options: object) -> float:
    return share


def _no_penalty(**options: object) -> Decimal:
    return Decimal(0)


def _all_go_on(**options: object) -> float:
    return 1.0


@dataclass(frozen=True)
class Facts:
    """What every entry has: nothing. An axis whose entries declare something has a dataclass below."""


@dataclass(frozen=True)
class DataSource(Facts):
    """A data set.

    Attributes:
        train_examples: how many, known before the data are read, so that `validate` can resolve epochs; 0: unknown.
        classes: how many; 0: unknown.
        shape: of one example; (): unknown.
        embedded: whether it comes with the package and needs no file.
        with_options: from ``**options`` to the facts with these options; None: they are always the same.
    """

    train_examples: int = 0
    classes: int = 0
    shape: tuple[int, ...] = ()
    embedded: bool = False
    with_options: Callable[..., DataSource] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured on it besides the loss; (): not known before the data are read."""
        return ("accuracy",) if self.classes else ()

    def having(self, options: Mapping[str, object]) -> DataSource:
        """The facts of the data set with some options, all of them given."""
        return self if self.with_options is None else self.with_options(**options)


@dataclass(frozen=True)
class Model(Facts):
    """A model.

    Attributes:
        trained: from ``**options`` to whether it comes with trained weights, which must not be drawn anew unasked.
        rooted: whether it looks for files below the folder of ``--data-root``, and takes it by the keyword ``root``.
        pictures: whether its outputs are pictures, a value per class and pixel, and no scores of classes.
    """

    trained: Callable[..., bool] = _untrained
    rooted: bool = False
    pictures: bool = False


@dataclass(frozen=True)
class Metric(Facts):
    """A metric.

    Attributes:
        best: which way is better.
        split: the part of the data it is measured on: ``train``, ``validation``, ``test``, or empty where it needs no
            data.
        always: whether every network is measured; else only where a search names it, and what is exported.
        simulated: whether a simulated trial has it too, which has scores, counts of weights and steps, but no network.
        mid_training: whether it can be taken in the middle of a retraining too, so that a scheduler can stop a trial by
            it; None: where it is measured on validation data.
        score: what it is called among the scores of a pass over the split, where it is one of them.
        needs_classes: whether the task's targets must be classes, chances of them, or tokens.
        lacks: says in a few words what this machine lacks to measure it, nothing where it has all; None: nothing is
            needed.
        whole: whether it needs the whole network in one process, so that no sharded trial can have it.
    """

    best: Literal["maximize", "minimize"] = "maximize"
    split: str = ""
    always: bool = True
    simulated: bool = False
    mid_training: bool | None = None
    score: str = ""
    needs_classes: bool = False
    lacks: Callable[[], str] | None = None
    whole: bool = False

    @property
    def in_training(self) -> bool:
        """Whether it can be taken in the middle of a retraining."""
        return self.split == "validation" if self.mid_training is None else self.mid_training


@dataclass(frozen=True)
class Loss(Facts):
    """A loss.

    Attributes:
        target: what it takes: ``classes`` (whole numbers from 0), ``chances`` (0…1, shaped like the outputs),
            ``numbers`` (shaped like the outputs), ``tokens`` (the inputs themselves, of which each is predicted from
            those before it), or ``outputs`` (the loss that the network itself returns).
        metric: the registered task metric that a task with this loss has where it names none.
        taught: whether it compares the network with a teacher: it is given the lesson of a batch by keyword, and is for
            retrainings only.
    """

    target: Literal["classes", "chances", "numbers", "tokens", "outputs"] = "classes"
    metric: str = "accuracy"
    taught: bool = False


@dataclass(frozen=True)
class TaskMetric(Facts):
    """A metric of a task, which is shown as ``val/NAME`` and ``test/NAME``.

    Attributes:
        best: which way is better.
        share: whether it is at most 1, so that 1% of it is 0.01.
    """

    best: Literal["maximize", "minimize"] = "maximize"
    share: bool = False


@dataclass(frozen=True)
class Augmentation(Facts):
    """An augmentation.

    Attributes:
        new_levels: whether its pictures have levels that are neither 0 nor among those that it was given.
    """

    new_levels: bool = False


@dataclass(frozen=True)
class Initializer(Facts):
    """An initializer.

    Attributes:
        draws: whether it draws random weights, so that a transform can draw anew.
        measures: whether it looks at training inputs, and takes what gives them by the keyword ``inputs``.
        prior: whether it finds a prior over weights, of which ``weight_decay: from-prior`` can be made.
        by_layer: whether it draws each parameter without looking at the others, so that it also draws those of a
            network that is sharded over workers, one layer after the other.
    """

    draws: bool = True
    measures: bool = False
    prior: bool = False
    by_layer: bool = False


@dataclass(frozen=True)
class OptimizerFacts(Facts):
    """An optimizer.

    Attributes:
        check: from ``**options`` to what is wrong with them together, or an empty text.
        samples: whether it draws from a posterior, and takes what is known of that by the keyword ``posterior``.
        sharded: whether the update of a weight depends on this weight, its gradient and its buffers alone, so that each
            worker of a sharded network can step the part that it holds.
    """

    check: Callable[..., str] | None = None
    samples: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Criterion(Facts):
    """A criterion.

    Attributes:
        kind: of the mask: ``static``, ``scheduled``, ``sampled`` or ``latent``.
        reduce: how the scores of a group's weights become the group's score, or from ``**options`` to that.
        each_batch: from ``**options`` to whether every batch is scored by itself, a group's score being the mean.
        scales: of coupled channels the scales of normalizations on the way are ``scored`` like weights, ``left`` out,
            or the ``only`` thing that counts, by their size.
        compared: ``scope``, or ``row`` or ``layer`` where single weights compete within their output row or their layer
            only; or from ``**options`` to that.
        rough: whether it has cheaper scores of a known error (`Scoring.rough`).
        keeps_all: the mask keeps everything; the sparsity is for the dynamics.
        needs_data: whether scoring reads training data.
        needs_batchnorm: whether the network must have BatchNorm.
        trains: it learns the scores of units in steps of its own (made from a `LearningContext` to a `Phase`).
        length: from ``(epoch, **options)`` to those steps.
        of_share: from ``**options`` to whether the asked share plays a part in them.
        begin: from ``(learning, **options)``: what it does to the weights before.
        steps: from ``(score block, **options)`` to the updates that its scoring trains, to be counted.
        granularities: those it goes with; None: all.
        sparsity: the forms of sparsity that it takes.
        oracle: an independent, slow definition that tests compare with.
        convolutional_default: whether the default model is convolutional.
        of_places: whether scores depend on the places of layers only, so that a mask is known before training.
        layerwise: from ``**options`` to the `Layerwise` that prunes a layer from its own weights and inputs alone, so
            that it can be done block after block (scope option ``order: blocks``); None: it needs more than those.
        sharded: whether a weight's score depends on this weight and its gradient alone, so that each worker can score
            the part that it holds.
        passes_over_shards: whether it looks for itself after a network that is sharded over workers.
    """

    kind: str = "static"
    reduce: str | Callable[..., str] = "sum-abs"
    each_batch: Callable[..., bool] = _all_together
    scales: Literal["scored", "left", "only"] = "scored"
    compared: str | Callable[..., str] = "scope"
    rough: bool = False
    keeps_all: bool = False
    needs_data: bool = False
    needs_batchnorm: bool = False
    trains: bool = False
    length: Callable[..., int] | None = None
    of_share: Callable[..., bool] = _no_share
    begin: Callable[..., None] | None = None
    steps: Callable[..., int] = _no_steps
    granularities: tuple[str, ...] | None = None
    sparsity: tuple[str, ...] = ("final", "per_round")
    oracle: Callable[..., Mapping[str, object]] | None = None
    convolutional_default: bool = False
    of_places: bool = False
    layerwise: Callable[..., object] | None = None
    sharded: bool = False
    passes_over_shards: bool = False

    @property
    def on_shards(self) -> bool:
        """Whether it scores a network of which each worker holds a part."""
        return self.sharded or self.passes_over_shards

    def competition(self, **options: object) -> str:
        """Within what single weights compete: ``scope``, ``row`` or ``layer``."""
        return self.compared if isinstance(self.compared, str) else self.compared(**options)


@dataclass(frozen=True)
class Granularity(Facts):
    """A granularity.

    Attributes:
        output_layer: whether the output layer takes part.
        fixed_sparsity: from ``**options`` to the only possible sparsity.
        convolutional_default: whether the default model is convolutional.
        structured: whether a unit can be more than one weight.
        by_channels: a unit is made of [outputs, inputs, *kernel], however the layer stores it.
        by_inputs: the same with the inputs of all groups of a grouped convolution, and the outputs of one.
        removes_outputs: a unit is an output, so that its bias and what normalizes it go with it.
        coupled: whether units span the layers that share a channel.
        find: of coupled units from ``(network, weights that are left out, example inputs)`` to the `Channels` of each
            set, and of other weights why they are in none; None: all channels that layers share.
        default_model: the model of a recipe that names none; empty: the usual one.
        run: from ``**options`` to the length of a run of units of which a fixed share is kept.
        fits: from ``(the weight's shape, **options)`` to whether the layer takes part.
        check: from ``**options`` to what is wrong with them together, or an empty text.
    """

    output_layer: bool = True
    fixed_sparsity: Callable[..., float] | None = None
    convolutional_default: bool = False
    structured: bool = False
    by_channels: bool = False
    by_inputs: bool = False
    removes_outputs: bool = False
    coupled: bool = False
    find: Callable[..., object] | None = None
    default_model: str = ""
    run: Callable[..., int] | None = None
    fits: Callable[..., bool] = _every_layer
    check: Callable[..., str] | None = None


@dataclass(frozen=True)
class Scope(Facts):
    """A scope.

    Attributes:
        granularities: those it goes with; None: all.
        sparsity: the forms of sparsity that it takes.
        decides: whether it always decides the sparsity itself.
        even: whether every layer, or run, may get the same share.
        measured: whether it asks for the loss and cost of layers.
        once: it measures the dense network, so that it goes with a single round.
        densities: from ``(layers, share, **options)`` to the layers' kept shares, where they follow from their shapes.
        check: from ``(sparsity, **options)`` to what is wrong with them together, or an empty text.
        search: where it tries the layers' fractions in episodes: from ``(FractionProblem, **options)`` to the
            `FractionSearcher` that proposes them; its function is given what was found by the keyword ``found``.
        length: from ``(epoch, **options)`` to the steps of that search.
    """

    granularities: tuple[str, ...] | None = None
    sparsity: tuple[str, ...] = ("final", "per_round")
    decides: bool = False
    even: bool = False
    measured: bool = False
    once: bool = False
    densities: Callable[..., Sequence[float]] | None = None
    check: Callable[..., str] | None = None
    search: Callable[..., object] | None = None
    length: Callable[..., int] | None = None

    @property
    def searches(self) -> bool:
        """Whether it tries the layers' fractions in episodes, which a trial runs."""
        return self.search is not None


@dataclass(frozen=True)
class Control(Facts):
    """A control of a mask.

    Attributes:
        with_dynamics: whether it can be drawn of a mask that a dynamics has moved, which has no scores.
        by_layer: whether it looks at the kept units of one layer at a time and at nothing else, so that it can be drawn
            of a network that is sharded over workers.
    """

    with_dynamics: bool = True
    by_layer: bool = False


@dataclass(frozen=True)
class Transform(Facts):
    """A transform.

    Attributes:
        place: ``transform`` (sees the mask), ``prepare`` (runs before there is one) or ``both``.
        trains: whether it takes training steps.
        length: from ``(epoch, penalty, **options)`` to its iterations, at most.
        leaves_penalty: from ``**options`` to the L2 penalty that a `prepare` leaves on every weight.
        needs_data: whether it reads training data.
        granularities: those it goes with; None: all.
        redraws: whether it needs an initializer that draws.
        reshapes: whether it changes the network's layers, so that their weights have other shapes or are gone.
        check_network: from ``(network, example inputs, names of the weights that are removed)``, raises a UserError
            where it cannot change that network so.
        takes_moved: whether it would compute the weights anew that a criterion has moved while it found the mask.
        sharded: whether it changes networks that are sharded over workers, where it acts on single weights.
    """

    place: Literal["transform", "prepare", "both"] = "transform"
    trains: bool = False
    length: Callable[..., int] | None = None
    leaves_penalty: Callable[..., Decimal] = _no_penalty
    needs_data: bool = False
    granularities: tuple[str, ...] | None = None
    redraws: bool = False
    reshapes: bool = False
    check_network: Callable[..., object] | None = None
    takes_moved: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class DynamicsFacts(Facts):
    """A dynamics.

    Attributes:
        kind: of the mask: ``static``, ``scheduled``, ``sampled`` or ``latent``.
        starts_from: ``all`` where it needs a mask that keeps everything, ``mask`` where it moves a given one.
        granularities: those it goes with; None: all.
        scopes: those it goes with; None: all.
        settles: from ``(total, epoch, **options)`` to the step from which the mask has the asked sparsity.
        misplaced: from the same to what is wrong with its places in `total` steps: (option, message) each.
        check: from ``(granularity's name, **options)`` to what is wrong with them together, or an empty text.
        mean_kept: from ``(final share, total, epoch, **options)`` to the mean kept share over the steps.
        full_gradients: from ``(total, epoch, **options)`` to the number of steps in which the gradients of removed
            weights are needed.
        sharded: whether it moves masks of networks that are sharded over workers.
    """

    kind: str = "scheduled"
    starts_from: Literal["mask", "all"] = "mask"
    granularities: tuple[str, ...] | None = None
    scopes: tuple[str, ...] | None = None
    settles: Callable[..., int] = _at_once
    misplaced: Callable[..., Iterable[tuple[str, str]]] = _well_placed
    check: Callable[..., str] | None = None
    mean_kept: Callable[..., float] = _constant_share
    full_gradients: Callable[..., int] = _at_once
    sharded: bool = False


@dataclass(frozen=True)
class Sampler(Facts):
    """A sampler.

    Attributes:
        independent: a proposal depends on no result, so that it can be made long before its trial runs.
        expects: its searches recommend, and repeat, recipes by expected figures in place of measured ones.
    """

    independent: bool = False
    expects: bool = False


@dataclass(frozen=True)
class Scheduler(Facts):
    """A scheduler.

    Attributes:
        several_objectives: whether it can rank by more than one metric.
        mid_training: whether it compares trials by what is measured in the middle of their last retraining.
        keeps: from ``**options`` to the share of trials that goes on after each of its judgements.
        promotes: whether the others are paused instead of stopped, and can go on later (`schedulers.PromotingRule`).
    """

    several_objectives: bool = True
    mid_training: bool = True
    keeps: Callable[..., float] = _all_go_on
    promotes: bool = False


@dataclass(frozen=True)
class Preset(Facts):
    """A preset.

    Attributes:
        also: blocks that, merged over its own, make further forms of the same paradigm, by which recipes are named too.
        paradigm: the preset that it is with another task or training, and by which its recipes are named; empty: it is
            a paradigm of its own.
    """

    also: tuple[Mapping[str, object], ...] = ()
    paradigm: str = ""


@dataclass(frozen=True)
class Picture(Facts):
    """A picture of a comparison.

    Attributes:
        place: which comes first: smaller numbers do.
    """

    place: int = 100
