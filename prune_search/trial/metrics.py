"""Measures the metrics of a trial's network in one way, at the end of a round and during its retraining."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from prune_search.recipe.axes import METRICS
from prune_search.recipe.problems import Problem, UserError, not_one_of
from prune_search.storage.measurements import Measurements
from prune_search.tasks.fusion import restructured
from prune_search.tasks.metrics import Measured, Take, at_the_end, figures, in_training
from prune_search.tasks.passes import twin_of
from prune_search.tasks.shapes import OF_CLASSES
from prune_search.training.segment import MODEL, load_model
from prune_search.training.weight_average import averaged
from prune_search.trial.together import taken
from prune_search.trial.training_flops import Operations

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prune_search.pruning.mask.mask_set import MaskSet
    from prune_search.trial.rounds import Round
    from prune_search.trial.setup import TrialSetup


SHOWN_AS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Spent:
    """What the training of a network has taken.

    Attributes:
        steps: of the whole recipe, whoever trained them.
        operations: of these steps.
    """

    steps: int = 0
    operations: Operations = field(default_factory=Operations)


@dataclass(frozen=True, eq=False)
class _Network:
    """A network where it is measured.

    Attributes:
        masks: those that hold there.
        spent: for it.
        trained: gives the network itself, for the pass over the data.
        shown: gives it to metrics that run it.
        take: a measurement of it, where that takes time.
    """

    masks: MaskSet
    spent: Spent
    trained: Callable[[], nn.Module]
    shown: Callable[[], nn.Module]
    take: Take


def check_asked(setup: TrialSetup, asked: Collection[str]) -> None:
    """Refuse what cannot be measured of a trial, before it is trained.

    Raises:
        UserError: metrics of training data, which are a stream that does not say how long it is; metrics of
            probabilities, where the targets are no classes; metrics that need what this machine lacks.
    """
    stream = "needs a pass over the training data, which are a stream that does not say how many examples it has"
    wrong = [] if len(setup.data.train) else [f"{name} {stream}" for name in _of_training_data(asked)]
    if setup.data.target not in OF_CLASSES:
        text = "needs probabilities of classes, which this task does not have"
        wrong += [f"{name} {text}" for name in asked if _asks_for_classes(name, setup)]
    wrong += [f"{name} needs {lacks}, which is not here" for name in asked if (lacks := _lacking(name))]
    if wrong:
        raise UserError(Problem("search.objectives", text) for text in wrong)


def _asks_for_classes(name: str, setup: TrialSetup) -> bool:
    """Whether a metric is of probabilities and none that the task itself measures."""
    own = name.partition("/")[2] in setup.data.metrics
    return name in METRICS and METRICS[name].facts.needs_classes and not own


def _lacking(name: str) -> str:
    """What this machine lacks for a metric, in words; empty where it lacks nothing."""
    lacks = METRICS[name].facts.lacks if name in METRICS else None
    return "" if lacks is None else lacks()


def _of_training_data(asked: Collection[str]) -> list[str]:
    return [name for name in asked if name in METRICS and METRICS[name].facts.split == "train"]


def round_metrics(
    setup: TrialSetup, item: Round, spent: Spent, measurements: Measurements, asked: Collection[str] = ()
) -> dict[str, float]:
    """What a search sees of a round that was run: validation data, what needs none, and training data where asked.

    Args:
        setup: see `end_metrics`, as are the others.
        item: the round.
        spent: up to its end.
        measurements: stored ones are not taken again.
        asked: metrics that are taken besides those that always are.
    """
    found = end_metrics(setup, item, "validation", spent, measurements, asked)
    wanted = _of_training_data(asked)
    of_training = end_metrics(setup, item, "train", spent, measurements, asked) if wanted else {}
    return {**found, **{name: value for name, value in of_training.items() if name in wanted}}


def end_metrics(
    setup: TrialSetup,
    item: Round,
    split: str,
    spent: Spent,
    measurements: Measurements,
    asked: Collection[str] = (),
) -> dict[str, float]:
    """What is measured of a round that was run.

    Args:
        setup: of the trial; its network gets the weights of the round's end, where something has to run it.
        item: the round.
        split: ``validation``, with what needs no data, ``train`` or ``test``.
        spent: up to the end of the round.
        measurements: stored ones are not taken again.
        asked: metrics that are taken besides those that always are.
    """
    masks = item.masks
    restructured(setup.model, item.result, MODEL)

    @cache
    def loaded() -> nn.Module:
        # Not before something is measured: what is stored needs no network.
        load_model(setup.model, item.result)
        masks.apply(setup.model)
        return setup.model

    identity = {"vertex": item.end.address, "mask": masks.sha256, "environment": dict(setup.environment)}

    def take(what: Mapping[str, object], measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        return taken(setup.workers, measurements, {**what, **identity}, measure)

    return _measure(setup, _Network(masks, spent, loaded, loaded, take), split, at_the_end(split, asked))


def training_metrics(
    setup: TrialSetup, item: Round, tensors: Mapping[str, Tensor], spent: Spent, asked: Collection[str] = ()
) -> dict[str, float]:
    """What is measured of the network in the middle of a round's retraining; its training is not changed.

    Args:
        setup: of the trial; its network is being trained.
        item: the round.
        tensors: of the hooks that train it, named as in a state.
        spent: so far.
        asked: metrics that are taken besides those of validation data that always are.
    """

    @cache
    def copied() -> nn.Module:
        return twin_of(setup.model)

    def take(what: Mapping[str, object], measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        return measure()

    masks = item.masks_now(tensors)
    average = averaged(tensors)

    @cache
    def finished() -> nn.Module:
        # What the training would result in.
        model = copied()
        load_model(model, {MODEL + key: value for key, value in {**model.state_dict(), **average}.items()})
        masks.apply(model)
        return model

    trained, shown = (finished, finished) if average else ((lambda: setup.model), copied)
    network = _Network(masks, spent, trained, shown, take)
    return _measure(setup, network, "validation", in_training(asked))


def validation_figure(setup: TrialSetup, name: str) -> float:
    """A registered metric of validation data, of the network as it is now; its training is not changed."""
    found = setup.scores("validation", setup.model)
    shown = {f"{SHOWN_AS['validation']}/{score}": value for score, value in found.items()}
    if name in shown:
        return shown[name]
    if name not in METRICS:
        raise UserError([Problem("early_stopping.metric", not_one_of(name, shown))])
    return figures(Measured(scores={"validation": found}, load=lambda: setup.model, data=setup.data), [name])[name]


def _measure(setup: TrialSetup, network: _Network, split: str, names: Iterable[str]) -> dict[str, float]:
    def scores() -> Mapping[str, float]:
        return setup.scores(split, network.trained())

    masks = network.masks
    what = {"kind": "scores", "split": split, "data": setup.digests["data"]}
    if setup.data.metrics_digest:
        what["metrics"] = setup.data.metrics_digest
    found = network.take(what, scores)

    def take(what: Mapping[str, object], measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        if setup.sharded is not None:
            # Every worker has a part in each pass.
            return network.take(what, measure)
        # Nobody else is busy while the first worker takes the time of something.
        return network.take(what, lambda: setup.workers.agreed(lambda: dict(measure())))

    measured = Measured(
        scores={split: found},
        kept=masks.kept,
        total={name: mask.numel() for name, mask in masks.items()},
        steps_trained=network.spent.steps,
        load=network.shown,
        data=setup.data,
        operations=network.spent.operations.as_data(),
        masks=masks,
        take=take,
        parameters=sum(parameter.numel() for parameter in setup.model.parameters())
        + sum(masks.everything[name].numel() for name in masks.fused),
        fused=frozenset(masks.fused),
    )
    shown = {f"{SHOWN_AS[split]}/{name}": value for name, value in found.items()}
    others = figures(measured, [name for name in names if name not in shown and not METRICS[name].facts.score])
    return {**shown, **others}
