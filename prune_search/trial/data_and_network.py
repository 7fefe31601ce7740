"""Reads the data that a recipe names and builds its network, by registered entries or the user's own code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prune_search.recipe import axes
from prune_search.recipe.blocks import UserCode
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import STREAM_EPOCH
from prune_search.tasks.data import DataSet
from prune_search.tasks.outlines import without_values
from prune_search.tasks.streams import Streamed
from prune_search.tasks.task import Task, shown_name, task_said
from prune_search.tasks.task_checks import check_examples
from prune_search.tasks.task_data import TaskData, read_task
from prune_search.tasks.user import (
    build_task_model,
    build_user_data,
    build_user_model,
    factory_named,
    name_of,
    source_digest,
)
from prune_search.trial.pretrained import load_weights

Factory = Callable[..., Any]
T = TypeVar("T")
# What a trial trains on: a classification data set of arrays, or any task.
TrialData = DataSet | TaskData
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
        said = f"{called}: " if (called := shown_name(task, name)) else ""
        raise UserError(Problem("task", said + message) for message in wrong)
    called = task_said(task, name)
    if not len(data.train):
        text = "%s: its stream does not say how many examples it has: an epoch (1ep) is taken to be %dit"
        _log.warning(text, called, STREAM_EPOCH)
    if task.workers and isinstance(data.train, Streamed):
        _log.warning("%s: its stream is read by the training process, and workers=%d is not used", called, task.workers)
    return data


@dataclass(frozen=True)
class NetworkFactory:
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
        return self._built(self.recipe.seed if seed is None else seed, contextlib.nullcontext())[:2]

    def outline(self, left_out: Callable[[nn.Module, str], bool]) -> tuple[nn.Module, str, list[str]]:
        """The same with parameters on the device meta, and why it may not be the same network; see `without_values`."""
        return self._built(self.recipe.seed, without_values(left_out))

    def _built(self, seed: int, within: AbstractContextManager[T]) -> tuple[nn.Module, str, T]:
        # What a factory draws depends on the seed only, and the caller's draws are not moved.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            with within as noted:
                return *self._made(), noted

    def _made(self) -> tuple[nn.Module, str]:
        model, data = self.recipe.task.model, self.data
        shape, classes, integers = self.known if data is None else (data.shape, data.classes, data.of_integers)
        if not isinstance(model, UserCode):
            entry = model.entry(axes.MODELS)
            if entry.facts.pictures and isinstance(data, DataSet):
                text = f"{model.name} outputs pictures, but {data.name} needs classes: use it with denoise or inpaint"
                raise UserError([Problem("task.model", text)])
            rooted = {"root": self.root} if entry.facts.rooted else {}
            return entry.make(shape, classes, **rooted, **model.options), ""
        factory = self.code.factory("model", model.name)
        source = source_digest(factory)
        if isinstance(data, DataSet) or (data is None and not self.recipe.task.is_whole):
            return build_user_model(factory, shape, classes, integers), source
        # A task that was read has its model with it: the function that gives the task is not called again.
        own = factory if data is None or not self.recipe.task.is_whole else data.task.model
        return build_task_model(own, model.name, shape, classes, self.root, data), source

    def finished(self, recipe: Recipe, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Another recipe's network with the tensors of its result, which takes the batches of these data."""
        if self.data is None:
            raise ValueError("the data are not known")
        model = finished_model(recipe, self.data, self.code, tensors, self.root)
        return self.data.usage.rules.adapted(model) if isinstance(self.data, TaskData) else model


def finished_model(
    recipe: Recipe, data: TrialData, code: Code, tensors: Mapping[str, Tensor], root: Path | None = None
) -> nn.Module:
    """The recipe's network with the tensors of a result (shapes [...] as in its state dict), in eval mode on the CPU.

    Raises:
        UserError: user code was not allowed or fails, or the tensors are another network's.
    """
    model, _ = NetworkFactory(recipe, code, root, data).build()
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
        return NetworkFactory(recipe, code, root, None, (facts.shape, facts.classes, False)).build()[0]
    if recipe.task.is_whole:
        classes = inputs.get("classes") if isinstance(inputs, Mapping) else 0
        known = ((), classes if isinstance(classes, int) else 0, False)
        return NetworkFactory(recipe, code, root, None, known).build()[0]
    if isinstance(inputs, Mapping):
        shape, classes = inputs.get("shape"), inputs.get("classes")
        sizes = [*shape, classes] if isinstance(shape, list) else []
        if sizes and all(isinstance(size, int) and size > 0 for size in sizes):
            known = (tuple(sizes[:-1]), sizes[-1], inputs.get("integers") is True)
            return NetworkFactory(recipe, code, root, None, known).build()[0]
    return NetworkFactory(recipe, code, root, read_data(recipe, root, code)).build()[0]
