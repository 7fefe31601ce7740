"""Prepares a trial: the recipe, the data on their device, the network at w(0), and their digests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.selection import unknown_layers
from prune_search.recipe import axes
from prune_search.recipe.blocks import UserCode
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.space import recipe_epoch
from prune_search.recipe.training_options import DENSE
from prune_search.tasks.data import DataSet
from prune_search.tasks.layers import check_network, other_names, prunable_weights
from prune_search.tasks.network import (
    forward_digest,
    network_digest,
    output_layer,
)
from prune_search.tasks.user import (
    build_user_data,
    build_user_model,
    factory_named,
    name_of,
    source_digest,
    with_inputs_for,
)
from prune_search.training.accumulation import accumulating
from prune_search.training.batchnorm_penalty import batchnorm_penalty, batchnorm_scales
from prune_search.training.environment import autocast, environment_class
from prune_search.training.loop import Feed, Hook, Network, augmentation
from prune_search.training.parameter_groups import Group
from prune_search.training.segment import model_tensors
from prune_search.trial.pretrained import fitted, read_weights
from prune_search.trial.teachers import GivenTeacher, read_teacher

Factory = Callable[..., Any]
_log = logging.getLogger("prune_search")


@dataclass(frozen=True)
class Code:
    """The user's own code that a run may call. A recipe that names code runs it only where it is also named here.

    Attributes:
        model: ``package.module:factory`` or a callable; None where the recipe's model is registered.
        data: the same for the data set.
    """

    model: str | Factory | None = None
    data: str | Factory | None = None

    def named(self) -> dict[str, str]:
        """The names, as a recipe's task block has them."""
        given = {"model": self.model, "data": self.data}
        return {k: v if isinstance(v, str) else name_of(v) for k, v in given.items() if v is not None}

    def factory(self, key: str, written: str) -> Factory:
        """The function that ``task.KEY: written`` names.

        Raises:
            UserError: it was not allowed, or cannot be imported.
        """
        given = self.model if key == "model" else self.data
        if given is None or self.named()[key] != written:
            text = f"{shown(written)} is custom code: to let it run, also pass --{key} {written}"
            raise UserError([Problem(f"task.{key}", text)])
        return factory_named(given, f"task.{key}") if isinstance(given, str) else given


@dataclass
class TrialSetup:
    """A recipe with its data and its network. Build one with `prepare`.

    Attributes:
        recipe: what is run.
        data: on the device.
        network: its model is at w(0), or at w(K) with ``train.from``; a trial trains it in place.
        start: w(0) (or w(K)) with its buffers, as named tensors.
        timeline: the recipe's places in iterations.
        digests: of the network and the data, for the key.
        environment: the environment class.
        forward: digest of the forward code.
        given_teacher: the teacher of retrainings, where it comes from a folder.
    """

    recipe: Recipe
    data: DataSet
    network: Network
    start: Mapping[str, Tensor]
    timeline: Timeline
    digests: Mapping[str, str]
    environment: Mapping[str, Any]
    forward: str
    given_teacher: GivenTeacher | None = None
    _feeds: dict[tuple[str | int, ...], Feed] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @cached_property
    def key(self) -> str:
        """The recipe's content address."""
        return self.recipe.key(self.digests)

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The teacher that comes from a folder, on the network's device; None without one."""
        return None if self.given_teacher is None else self.given_teacher.model.to(self.network.device)

    @cached_property
    def output_layer(self) -> str | None:
        """The name of the output layer's weight."""
        return output_layer(self.model, self.data.train.inputs[:1])

    def feed(self, *words: str | int) -> Feed:
        """The data stream of a place; no words: the training clock's."""
        if words not in self._feeds:
            augment = augmentation(self.recipe.train.augment)
            self._feeds[words] = Feed(self.data.train, self.recipe.train.batch, self.recipe.seed, words, augment)
        return self._feeds[words]

    def optimizer(
        self, named: Named, parameters: Iterable[nn.Parameter] | Iterable[Group] = ()
    ) -> torch.optim.Optimizer:
        """A fresh optimizer over parameters or groups of them (none given: the network's), its buffers at zero."""
        options = dict(named.options)
        rate = options.pop("lr")
        trained = list(parameters) or list(self.model.parameters())
        made: torch.optim.Optimizer = named.entry(axes.OPTIMIZERS).make(trained, rate, **options)
        return made

    def penalties(self) -> list[Hook]:
        """What every training of the network's weights adds to their gradients, as hooks that come first."""
        strength = self.recipe.train.batchnorm_l1
        return [batchnorm_penalty(self.model, strength)] if strength else []

    def root(self) -> str:
        """The content address of trajectory 1 (design: data, w(0), forward code and how it is trained)."""
        written = self.recipe.train.written
        train = {key: value for key, value in written.items() if key not in ("init", "from", "steps", "threads")}
        return digest_of(
            {
                "kind": "train",
                "network": self.digests["network"],
                "forward": self.forward,
                "data": self.digests["data"],
                "train": train,
                "given": self.recipe.train.start is not None,
                "steps": self.timeline.total,
                "seed": self.recipe.seed,
                "environment": dict(self.environment),
            }
        )


def read_data(recipe: Recipe, root: Path | None, code: Code) -> DataSet:
    """The recipe's data set.

    Raises:
        UserError: files are missing or wrong, or user code was not allowed or fails.
    """
    data = recipe.task.data
    if isinstance(data, UserCode):
        return build_user_data(code.factory("data", data.name), root)
    return data.entry(axes.DATASETS).build(DataSet, root, **data.options)


def _build_model(
    recipe: Recipe,
    shape: tuple[int, ...],
    classes: int,
    code: Code,
    integers: bool = False,
    seed: int | None = None,
) -> tuple[nn.Module, str]:
    """The model as its factory makes it, and the digest of a user's factory.

    Args:
        recipe: with the model.
        shape: of an example.
        classes: number of outputs.
        code: the user's own that may run.
        integers: whether the inputs are integers.
        seed: of what the factory draws; None: the recipe's.
    """
    model = recipe.task.model
    # What a factory draws depends on the seed only, and the caller's draws are not moved.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed if seed is None else seed)
        if isinstance(model, UserCode):
            factory = code.factory("model", model.name)
            return build_user_model(factory, shape, classes, integers), source_digest(factory)
        return model.entry(axes.MODELS).make(shape, classes, **model.options), ""


def prepare(
    recipe: Recipe,
    device: torch.device,
    data_root: Path | None = None,
    code: Code | None = None,
    folder: Path | None = None,
    data: DataSet | None = None,
    workers: int = 1,
) -> TrialSetup:
    """Read the data, build the network at w(0) and place the recipe's steps.

    Args:
        recipe: what is to be run.
        device: where.
        data_root: folder of the data sets' files.
        code: the user's own code that may run.
        folder: of the recipe file, which ``train.from`` can be relative to.
        data: the recipe's data set where it was read before.
        workers: that train it together.

    Raises:
        UserError: with everything that does not fit, before anything is trained.
    """
    code = code or Code()
    data = data or read_data(recipe, data_root, code)
    timeline = resolve(recipe, recipe_epoch(recipe, len(data.train.labels)))
    model, source = _build_model(recipe, data.shape, data.classes, code, data.of_integers)
    check_network(model, "task.model")
    init = recipe.train.init
    if recipe.train.start is None:
        _check_nothing_trained_is_lost(recipe, data, code, model, source)
        init.entry(axes.INITS).make(model, recipe.seed, **init.options)
    elif not recipe.train.from_model:
        _load_given(model, recipe.train.start, folder)
    if recipe.train.start is not None and data.held_out:
        _log.warning(
            "train.from: the validation examples were taken from the training set here, and the given weights may have "
            "been trained on them: val/ figures may flatter. Give the data a validation set of its own to be sure"
        )
    if unknown := unknown_layers(recipe.mask.scope, prunable_weights(model), other_names(model)):
        raise UserError(unknown)
    if recipe.train.batchnorm_l1 and not batchnorm_scales(model):
        raise UserError([Problem("train.batchnorm_l1", "this network has no batch norm with a scale to penalize")])
    digests = {"network": network_digest(model), "data": data.digest}
    data = with_inputs_for(model, data)
    if source:
        digests["source"] = source
    forward = forward_digest(model)
    threads, precision = recipe.train.threads, recipe.train.precision
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = Network(model, device, autocast(device, precision), torch.nn.functional.cross_entropy)
    network = accumulating(network, recipe.train.accumulate)
    start = model_tensors(model)
    environment = environment_class(device, precision, threads, workers)
    taught = recipe.retrain_options.teacher
    teacher = None
    if taught is not None and taught != DENSE:
        teacher = read_teacher(taught, folder, lambda recipe, tensors: finished_model(recipe, data, code, tensors))
        digests["teacher"] = teacher.digest
    return TrialSetup(recipe, data.to(device), network, start, timeline, digests, environment, forward, teacher)


# Factories, by name, source and data, that were found to draw their weights: a worker asks once.
_DRAWN: set[tuple[object, ...]] = set()


def _check_nothing_trained_is_lost(recipe: Recipe, data: DataSet, code: Code, model: nn.Module, source: str) -> None:
    """Refuse to draw the weights of a network anew that its factory does not draw: a pretrained one.

    Args:
        recipe: what is run.
        data: for the factory's arguments.
        code: with the factory.
        model: as it was built with the recipe's seed.
        source: digest of a user's factory; empty for a registered model, which draws.
    """
    init = recipe.train.init.entry(axes.INITS)
    asked = (repr(recipe.task.model), source, data.shape, data.classes)
    if not source or not init.facts.draws or asked in _DRAWN:
        return
    other, _ = _build_model(recipe, data.shape, data.classes, code, data.of_integers, recipe.seed + 1)
    pairs = zip(prunable_weights(model).values(), prunable_weights(other).values(), strict=False)
    varied = [(one, two) for one, two in pairs if one.numel() > 1 and bool((one != one.flatten()[0]).any())]
    if not varied or not all(one.shape == two.shape and torch.equal(one, two) for one, two in varied):
        _DRAWN.add(asked)
        return
    text = (
        f"{recipe.task.written['model']} builds the same weights whatever the seed, as a pretrained network does, and "
        f"train.init {init.name} would draw them anew. To prune the network as it comes, set train.from=model; to "
        f"train it further first, set train.init=as-built"
    )
    raise UserError([Problem("task.model", text)])


def _load_given(model: nn.Module, written: str, folder: Path | None) -> None:
    """Put the weights of ``train.from`` into the model, and say what had to be done to make them fit."""
    path = Path(written)
    if not path.is_absolute() and folder is not None and (folder / path).exists():
        path = folder / path
    state = model.state_dict(keep_vars=True)
    try:
        tensors, taken = fitted(read_weights(path, written), state)
        notes = [f"the names of its tensors are read without {prefix!r}" for prefix in taken]
        for name in sorted(set(state) - set(tensors)):
            if name.endswith("num_batches_tracked"):
                # Files of old versions of torch lack them; they are counts.
                tensors[name] = state[name].detach().clone()
        widened = [name for name, tensor in tensors.items() if name in state and _is_wider(state[name], tensor)]
        if widened:
            notes.append(f"{len(widened)} tensors in lower precision become {state[widened[0]].dtype}")
            tensors |= {name: tensors[name].to(state[name].dtype) for name in widened}
        load_weights(model, tensors, shown(written))
    except UserError as error:
        raise UserError(Problem("train.from", p.message) for p in error.problems) from None
    for note in notes:
        _log.warning("train.from: %s: %s", shown(written), note)


def _is_wider(has: Tensor, given: Tensor) -> bool:
    """Whether a type holds every value of another, smaller one of floating point."""
    both = has.is_floating_point() and given.is_floating_point()
    return both and has.dtype != given.dtype and torch.promote_types(has.dtype, given.dtype) == has.dtype


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights and buffers into a model.

    Args:
        model: changed in place, or left as it was where they do not fit.
        tensors: by name, as in the model's state_dict.
        source: where they come from, for messages.

    Raises:
        UserError: with every tensor that is missing, unknown, or of another shape or type.
    """
    problems = []
    state = model.state_dict(keep_vars=True)
    for name, tensor in state.items():
        given = tensors.get(name)
        if given is None:
            near = suggestion(name, [other for other in tensors if other not in state])
            problems.append(Problem("", f"{source} is missing the tensor {name!r}{near}"))
        elif given.shape != tensor.shape or given.dtype != tensor.dtype:
            has, wanted = (f"{tuple(t.shape)} of {t.dtype}" for t in (given, tensor))
            problems.append(Problem("", f"{source}: {name} is {has}, but the model's is {wanted}"))
    unknown = sorted(set(tensors) - set(state))
    if unknown:
        problems.append(Problem("", f"{source} has tensors that the model does not have: {', '.join(unknown[:5])}"))
    if problems:
        raise UserError(problems)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])


def finished_model(recipe: Recipe, data: DataSet, code: Code, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The recipe's network with the tensors of a result (shapes [...] as in its state dict), in eval mode on the CPU.

    Raises:
        UserError: user code was not allowed or fails, or the tensors are another network's.
    """
    model, _ = _build_model(recipe, data.shape, data.classes, code, data.of_integers)
    load_weights(model, tensors, "the result")
    return model.eval()


def build_model(recipe: Recipe, code: Code, root: Path | None, inputs: object = None) -> nn.Module:
    """The recipe's network as its factory makes it. Data are read only where their shape is not known beforehand.

    Args:
        recipe: with the model.
        code: the user's own that may run.
        root: folder of the data sets' files.
        inputs: ``{"shape": […], "classes": n}`` as metrics.json has it; anything else is as if nothing were known.

    Raises:
        UserError: user code was not allowed or fails, or data files are missing.
    """
    facts = recipe.task.source
    if facts.shape and facts.classes:
        return _build_model(recipe, facts.shape, facts.classes, code)[0]
    if isinstance(inputs, Mapping):
        shape, classes = inputs.get("shape"), inputs.get("classes")
        sizes = [*shape, classes] if isinstance(shape, list) else []
        if sizes and all(isinstance(size, int) and size > 0 for size in sizes):
            integers = inputs.get("integers") is True
            return _build_model(recipe, tuple(sizes[:-1]), sizes[-1], code, integers)[0]
    data = read_data(recipe, root, code)
    return _build_model(recipe, data.shape, data.classes, code, data.of_integers)[0]
