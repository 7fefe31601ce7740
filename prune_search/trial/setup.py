"""Prepares a trial: the recipe, the data on their device, the network at w(0), and their digests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.selection import unknown_layers
from prune_search.recipe import axes
from prune_search.recipe.blocks import Mask, UserCode
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.metric_names import wrong_metric
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.space import STREAM_EPOCH, recipe_epoch
from prune_search.recipe.training_options import DENSE
from prune_search.tasks.data import ALL_BYTES, DataSet
from prune_search.tasks.layers import check_network, other_names, prunable_weights
from prune_search.tasks.network import (
    forward_digest,
    network_digest,
    output_layer,
)
from prune_search.tasks.task import Task
from prune_search.tasks.task_checks import check_examples, fitted_task
from prune_search.tasks.task_data import TaskData, read_task
from prune_search.tasks.user import (
    build_task_model,
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
from prune_search.trial.pretrained import check_nothing_is_lost, load_given, load_weights
from prune_search.trial.teachers import GivenTeacher, read_teacher

Factory = Callable[..., Any]
# What a trial trains on: a classification data set of arrays, or any task.
TrialData = DataSet | TaskData
_log = logging.getLogger("prune_search")
# Examples that an augmentation is tried on.
AUGMENTED = 2
# What a recipe scores that does not say it.
DEFAULT_LOSS = "cross-entropy"


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
    data: TrialData
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
    def mask(self) -> Mask:
        """The mask block; what is scored is the task's own loss where the recipe names no other."""
        mask = self.recipe.mask
        named = mask.score.loss
        if isinstance(self.data, DataSet) or not isinstance(named, Named) or named.written != DEFAULT_LOSS:
            return mask
        return replace(mask, score=replace(mask.score, loss=_loss_of(self.data)))

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The teacher that comes from a folder, on the network's device; None without one."""
        return None if self.given_teacher is None else self.given_teacher.model.to(self.network.device)

    @cached_property
    def output_layer(self) -> str | None:
        """The name of the output layer's weight."""
        return output_layer(self.model, self.data.train.first(1))

    def feed(self, *words: str | int) -> Feed:
        """The data stream of a place; no words: the training clock's. Of one at a time, examples are read ahead."""
        if words not in self._feeds:
            self.close()
            augment = augmentation(self.recipe.train.augment)
            batch, seed = self.recipe.train.batch, self.recipe.seed
            self._feeds[words] = Feed(self.data.train, batch, seed, words, augment, ahead=True)
        return self._feeds[words]

    def close(self) -> None:
        """End the processes that read examples ahead; whoever needs them starts them anew."""
        for feed in self._feeds.values():
            feed.close()

    @property
    def waited_s(self) -> float:
        """Seconds for which training steps have waited for data that is read while it goes on."""
        return sum(feed.waited_s for feed in self._feeds.values())

    @property
    def inputs(self) -> dict[str, Any]:
        """What a network is built again with, and what the data's digest has looked at where that is not all."""
        data = self.data
        about = {"shape": list(data.shape), "classes": data.classes, "integers": data.of_integers}
        return about if data.looked_at == ALL_BYTES else {**about, "digest_of": data.looked_at}

    def scores(self, split: str, model: nn.Module) -> dict[str, float]:
        """The loss and the metrics of a network on a split: ``validation`` or ``test``.

        Raises:
            UserError: the data have no such split.
        """
        examples = self.data.split(split)
        if examples is None:
            raise UserError([Problem("task.data", f"has no {split} split")])
        return self.data.scores(model, examples, self.recipe.train.batch, self.network.autocast)  # type: ignore[arg-type]

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


def read_data(recipe: Recipe, root: Path | None, code: Code) -> TrialData:
    """The recipe's data set.

    Raises:
        UserError: files are missing or wrong, or user code was not allowed or fails.
    """
    data = recipe.task.data
    if isinstance(data, UserCode):
        made = build_user_data(code.factory("data", data.name), root)
        return _read(made, data.name) if isinstance(made, Task) else made
    built = data.entry(axes.DATASETS).make(root, **data.options)
    if isinstance(built, Task):
        return _read(built, data.name)
    if not isinstance(built, DataSet):
        text = f"{data.name!r} returned a {type(built).__name__} where a DataSet or a Task is needed"
        raise UserError([Problem("task.data", text)])
    return built


def _read(task: Task, name: str) -> TaskData:
    data, wrong = read_task(name, task)
    if data is not None:
        wrong = check_examples(data)
    if data is None or wrong:
        raise UserError(Problem("task", f"{task.name or name}: {message}") for message in wrong)
    if not len(data.train):
        text = "task %s: its stream does not say how many examples it has: an epoch (1ep) is taken to be %dit"
        _log.warning(text, task.name or name, STREAM_EPOCH)
    return data


def fitted_to(model: nn.Module, data: TrialData) -> TrialData:
    """The data as a network takes them, and the network so that it takes them.

    Args:
        model: on the CPU; made to take the batches of a task.
        data: of arrays: integers stay integers where it runs on them; of a task: it gets its loss and metrics.

    Raises:
        UserError: they do not go together.
    """
    if isinstance(data, DataSet):
        return with_inputs_for(model, data)
    return fitted_task(data, model)


@dataclass(frozen=True)
class _Factory:
    """What builds a recipe's model.

    Attributes:
        recipe: with the model.
        code: the user's own that may run.
        root: folder of the data sets' files, for factories that name it.
        data: whose shape and classes a factory is told; None where only `known` is known of them.
        known: shape, classes and whether inputs are integers.
    """

    recipe: Recipe
    code: Code
    root: Path | None
    data: TrialData | None = None
    known: tuple[tuple[int, ...], int, bool] = ((), 0, False)

    def build(self, seed: int | None = None) -> tuple[nn.Module, str]:
        """The model as its factory makes it, and the digest of a user's factory.

        Args:
            seed: of what the factory draws; None: the recipe's.
        """
        model, data = self.recipe.task.model, self.data
        shape, classes, integers = self.known if data is None else (data.shape, data.classes, data.of_integers)
        # What a factory draws depends on the seed only, and the caller's draws are not moved.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.recipe.seed if seed is None else seed)
            if not isinstance(model, UserCode):
                entry = model.entry(axes.MODELS)
                rooted = {"root": self.root} if entry.facts.rooted else {}
                return entry.make(shape, classes, **rooted, **model.options), ""
            factory = self.code.factory("model", model.name)
            source = source_digest(factory)
            if isinstance(data, DataSet) or (data is None and not self._of_one_task()):
                return build_user_model(factory, shape, classes, integers), source
            # A task that was read has its model with it: the function that gives the task is not called again.
            own = factory if data is None or not self._of_one_task() else data.task.model
            return build_task_model(own, model.name, shape, classes, self.root, data), source

    def finished(self, recipe: Recipe, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Another recipe's network with the tensors of its result, which takes the batches of these data."""
        if self.data is None:
            raise ValueError("the data are not known")
        model = finished_model(recipe, self.data, self.code, tensors, self.root)
        return self.data.usage.rules.adapted(model) if isinstance(self.data, TaskData) else model

    def _of_one_task(self) -> bool:
        """Whether model and data are those of one task."""
        task = self.recipe.task
        return isinstance(task.model, UserCode) and task.model == task.data


def _loss_of(data: TrialData) -> Callable[[Any, Any], Tensor]:
    if data.loss is None:
        raise UserError([Problem("task", "no loss goes with it")])
    return data.loss


def _check_stopping(recipe: Recipe, data: TrialData) -> None:
    """Refuse to stop early by what this task does not measure."""
    retrain = recipe.retrain_options if recipe.retrain is not None else None
    for role, options in (("train", recipe.train.options), ("retrain", retrain)):
        stopping = None if options is None else options.early_stopping
        if stopping is not None and (text := wrong_metric(stopping.metric, [*data.metrics, "loss"])):
            raise UserError([Problem(f"{role}.early_stopping.metric", text)])


def _check_augmentation(recipe: Recipe, data: TrialData) -> None:
    """Refuse to augment what an augmentation does not take: it is tried on a few examples."""
    named = recipe.train.augment
    augment = augmentation(named)
    if augment is None:
        return
    inputs = data.train.first(AUGMENTED)
    if not isinstance(inputs, Tensor):
        text = f"{named.name} takes one tensor, and the network of this task gets others: augment in its Dataset"
        raise UserError([Problem("train.augment", text)])
    augment(inputs, torch.Generator().manual_seed(0))


def prepare(
    recipe: Recipe,
    device: torch.device,
    data_root: Path | None = None,
    code: Code | None = None,
    folder: Path | None = None,
    data: TrialData | None = None,
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
    timeline = resolve(recipe, recipe_epoch(recipe, len(data.train)))
    factory = _Factory(recipe, code, data_root, data)
    model, source = factory.build()
    check_network(model, "task.model")
    init = recipe.train.init
    if recipe.train.start is None:
        about = data.shape, data.classes
        check_nothing_is_lost(recipe, model, source, about, lambda seed: factory.build(seed)[0])
        init.entry(axes.INITS).make(model, recipe.seed, **init.options)
    elif not recipe.train.from_model:
        load_given(model, recipe.train.start, folder)
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
    if source:
        digests["source"] = source
    forward = forward_digest(model)
    data = fitted_to(model, data)
    _check_augmentation(recipe, data)
    _check_stopping(recipe, data)
    threads, precision = recipe.train.threads, recipe.train.precision
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = Network(model, device, autocast(device, precision), _loss_of(data))
    network = accumulating(network, recipe.train.accumulate)
    start = model_tensors(model)
    environment = environment_class(device, precision, threads, workers)
    taught = recipe.retrain_options.teacher
    teacher = None
    if taught is not None and taught != DENSE:
        teacher = read_teacher(taught, folder, factory.finished)
        digests["teacher"] = teacher.digest
    return TrialSetup(recipe, data.to(device), network, start, timeline, digests, environment, forward, teacher)


def finished_model(
    recipe: Recipe, data: TrialData, code: Code, tensors: Mapping[str, Tensor], root: Path | None = None
) -> nn.Module:
    """The recipe's network with the tensors of a result (shapes [...] as in its state dict), in eval mode on the CPU.

    Raises:
        UserError: user code was not allowed or fails, or the tensors are another network's.
    """
    model, _ = _Factory(recipe, code, root, data).build()
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
        return _Factory(recipe, code, root, None, (facts.shape, facts.classes, False)).build()[0]
    if isinstance(recipe.task.model, UserCode) and recipe.task.model == recipe.task.data:
        classes = inputs.get("classes") if isinstance(inputs, Mapping) else 0
        return _Factory(recipe, code, root, None, ((), classes if isinstance(classes, int) else 0, False)).build()[0]
    if isinstance(inputs, Mapping):
        shape, classes = inputs.get("shape"), inputs.get("classes")
        sizes = [*shape, classes] if isinstance(shape, list) else []
        if sizes and all(isinstance(size, int) and size > 0 for size in sizes):
            known = (tuple(sizes[:-1]), sizes[-1], inputs.get("integers") is True)
            return _Factory(recipe, code, root, None, known).build()[0]
    return _Factory(recipe, code, root, read_data(recipe, root, code)).build()[0]
