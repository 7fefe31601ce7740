"""What `train` and `retrain` say of how a network is trained, besides its optimizer and its learning rate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.metric_names import metric_facts
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named
from prune_search.recipe.training_options import DENSE, OFF, EarlyStopping, TrainingOptions
from prune_search.tasks.network import output_layer
from prune_search.tasks.passes import twin_of
from prune_search.training.clipping import clipping
from prune_search.training.early_stopping import BestState, StoppingRule
from prune_search.training.loop import Hook, Network, pass_over
from prune_search.training.parameter_groups import layer_factors, parameter_groups
from prune_search.training.segment import Segment, load_model
from prune_search.training.teaching import Teaching
from prune_search.training.weight_average import WeightAverage
from prune_search.trial.metrics import validation_figure
from prune_search.trial.setup import TrialSetup

TRAIN, RETRAIN = "train", "retrain"


def optimizer_of(
    setup: TrialSetup,
    named: Named,
    options: TrainingOptions,
    *words: str | int,
    owners: Mapping[nn.Parameter, nn.Parameter] | None = None,
) -> torch.optim.Optimizer:
    """A fresh optimizer over the network's parameters, in the groups that the options ask for.

    Args:
        setup: the recipe, the data and the network.
        named: the optimizer.
        options: what holds in the training.
        words: the place of the training, for what the optimizer draws.
        owners: what is trained in their place, and the parameter of the network that each stands for; None: themselves.
    """
    owners = owners or {parameter: parameter for parameter in setup.model.parameters()}
    parameters = list(owners)
    factors = None
    if options.layer_decay < 1.0:
        known = layer_factors(setup.model, setup.data.train.first(1), options.layer_decay)
        factors = {parameter: known[owner] for parameter, owner in owners.items()}
    return setup.optimizer(named, parameter_groups(parameters, options.decay_norms, factors), words)


def hooks_of(
    setup: TrialSetup,
    options: TrainingOptions,
    total: int,
    before: Sequence[Hook] = (),
    settled: int = 0,
    settle: Callable[[], None] | None = None,
    trained: Sequence[nn.Parameter] | None = None,
) -> list[Hook]:
    """The hooks of a training, in their order.

    Args:
        setup: the recipe, the data and the network.
        options: what holds in it.
        total: its steps, at most.
        before: the hooks of the method, the mask's last; the gradients are clipped and the weights averaged after them.
        settled: the step from which the network has the asked sparsity.
        settle: puts the mask onto weights that were put into the network; None without one.
        trained: the parameters whose gradients are clipped; None: the network's.
    """
    hooks = [*before]
    if options.clip is not None:
        hooks.append(clipping(list(trained or setup.model.parameters()), options.clip))
    average = None
    if options.ema > 0.0:
        average = WeightAverage(setup.model, options.ema, settle)
        hooks.append(average.hook())
    if options.early_stopping is not None and total > 0:
        hooks.append(_stopping(setup, options.early_stopping, total, before, settled, average))
    return hooks


def _stopping(
    setup: TrialSetup,
    written: EarlyStopping,
    total: int,
    before: Sequence[Hook],
    settled: int,
    average: WeightAverage | None,
) -> Hook:
    rule = StoppingRule(
        every=max(1, written.every.resolve(total, setup.timeline.epoch)),
        patience=written.patience,
        restore=written.restore,
        best=metric_facts(written.metric).best,
        after=settled,
        total=total,
    )
    measure = functools.partial(validation_figure, setup, written.metric)
    within = {} if average is None else {"as_ended": average.in_place}
    return BestState(setup.model, rule, measure, before, **within).hook()


def training_network(setup: TrialSetup) -> Network:
    """The network with the loss of trajectory 1."""
    return _in_role(setup, TRAIN, setup.recipe.train.options)


def retraining_network(setup: TrialSetup, teacher: Callable[[], nn.Module] | None = None) -> Network:
    """The network with the loss of retrainings.

    Args:
        setup: the recipe and the network.
        teacher: gives the teacher where it comes out of the same trial; None: one of the network's kind, to look at.
    """
    options = setup.recipe.retrain_options
    network = _in_role(setup, RETRAIN, options)
    if options.loss is None:
        return network
    made = teacher or functools.partial(twin_of, setup.model)
    given, layers = setup.teacher, None
    if given is not None:
        made = functools.partial(_same, given)
    if options.loss.options.get("features", OFF) != OFF:
        student = setup.output_layer or ""
        other = student if given is None else output_layer(given, setup.data.train.first(1)) or ""
        layers = student.rpartition(".")[0], other.rpartition(".")[0]
    entry = options.loss.entry(axes.LOSSES)
    make = functools.partial(entry.make, **options.loss.options)
    teaching = Teaching(made, network.loss, make, layers)
    return replace(network, loss=teaching.loss, gradients=teaching.gradients(network.gradients), teaching=teaching)


def _same(model: nn.Module) -> nn.Module:
    return model


def check_teaching(setup: TrialSetup) -> None:
    """See, before anything is trained, that network and teacher go together.

    Raises:
        UserError: their outputs or features have other shapes, say.
    """
    if setup.recipe.retrain_options.loss is None:
        return
    network = retraining_network(setup)
    copy = replace(network, model=twin_of(setup.model))
    if network.teaching is not None:
        with network.teaching.listening(copy.model):
            pass_over(copy, setup.feed(), 0)


def dense_teacher(setup: TrialSetup, first: Segment) -> Callable[[], nn.Module]:
    """w(K) of the same trial, as a network of its own."""

    def made() -> nn.Module:
        tensors = first.end().tensors
        model = twin_of(setup.model)
        load_model(model, tensors)
        return model

    return made


def needs_dense_teacher(setup: TrialSetup) -> bool:
    """Whether w(K) of trajectory 1 is asked for as the teacher."""
    return setup.recipe.retrain_options.teacher == DENSE


def _in_role(setup: TrialSetup, role: str, options: TrainingOptions) -> Network:
    return replace(setup.network, loss=_smoothed(setup, options.label_smoothing, role))


def _smoothed(setup: TrialSetup, share: float, role: str) -> Callable[..., Tensor]:
    if share == 0.0:
        return setup.network.loss
    smoothed = setup.data.smoothed(share)
    if smoothed is None:
        text = "is an option of cross-entropy, and this task has another loss"
        raise UserError([Problem(f"{role}.label_smoothing", text, form=False)])
    return smoothed
