"""Loads a user's own model and data set from a function, ``package.module:factory`` or a Python callable."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from prune_search.recipe.plugins import find_own_modules
from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.tasks.data import DataSet
from prune_search.tasks.outlines import has_values, outlined
from prune_search.tasks.passes import evaluating
from prune_search.tasks.raised import as_user_error
from prune_search.tasks.remarks import SOFTMAX, are_probabilities
from prune_search.tasks.sources import bare, captured, source, source_file
from prune_search.tasks.task import WHOLE, Task, Whole
from prune_search.tasks.user_data import read_data

MODEL_KEY, DATA_KEY = "task.model", "task.data"
_log = logging.getLogger("prune_search")


def factory_named(text: str, key: str) -> Callable[..., Any]:
    """The function that ``package.module:factory`` names.

    Importing runs the module. The current directory goes to the front of `sys.path`, as with ``python -m``.

    Args:
        text: as written in a recipe; the part behind the colon may be dotted.
        key: where it is written ("task.model" or "task.data"), for messages.

    Raises:
        UserError: another form, no such module, an error while it is imported, no such name in it, or no callable.
    """
    module_name, colon, attribute = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise _wrong(key, f"{shown(text)} is not of the form package.module:factory")
    if module_name.endswith(".py"):
        meant = f"{module_name.removesuffix('.py')}:{attribute}"
        raise _wrong(key, f"{shown(text)}: write the module's name without .py: {meant}")
    find_own_modules()
    found: Any = _module_named(module_name, text, key)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise _wrong(key, f"{shown(text)}: {module_name} has no {name!r}{suggestion(name, vars(found))}")
        found = getattr(found, name)
    if not callable(found):
        raise _wrong(key, f"{shown(text)} is not a function but a value of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _module_named(name: str, text: str, key: str) -> Any:
    try:
        with as_user_error(f"{text} raised", key):
            return importlib.import_module(name)
    except UserError as error:
        cause = error.__cause__
        # A module that the user's own module lacks is an error in the user's module, told by its line.
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
            where = "the current directory or among the installed packages"
            raise _wrong(key, f"{shown(text)}: there is no module {cause.name!r} in {where}") from cause
        raise


def name_of(factory: Callable[..., Any]) -> str:
    """``module:qualname`` of a function, class or callable object (of its class), under wrappers and partials."""
    thing = bare(factory)
    return f"{thing.__module__}:{thing.__qualname__}"


def source_digest(factory: Callable[..., Any]) -> str:
    """The sha256 (hex) of the source text of the file that defines `factory`, and of the settings that it carries.

    Where the text can't be had, its qualified name and bytecode stand in for it. Settings are the arguments of a
    partial, the values that a closure captured, defaults and attributes, as far as they are plain values or arrays.
    For a task that is there already its model's factory stands: its data and functions have a digest of their own.
    """
    thing = factory.task.model if isinstance(factory, Whole) else factory
    text = f"{source(thing)}\0{captured(thing)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def build_user_model(
    factory: Callable[..., Any], shape: tuple[int, ...], classes: int, integers: bool = False
) -> nn.Module:
    """Call a user's model factory, and check what it returns on two examples of zeros.

    Args:
        factory: called with those of the keywords shape, input_shape, classes and num_classes that its signature
            names. One that takes ``**kwargs`` and names neither of the last two is given num_classes, which is what
            such factories hand on.
        shape: of one example.
        classes: number of outputs that the data set asks for.
        integers: whether the data's inputs are integers; the model need not take them, but then it takes float32.

    Raises:
        UserError: it needs other arguments, raises, or returns no module that maps [N, *shape] to [N, classes].
    """
    name = name_of(factory)
    offered = {"shape": shape, "input_shape": shape, "classes": classes, "num_classes": classes}
    made = _called(factory, offered, MODEL_KEY, {"num_classes": classes})
    if not isinstance(made, nn.Module):
        raise _wrong(MODEL_KEY, f"{name} returned a value of type {type(made).__name__}, not a torch.nn.Module")
    model = made if has_values(made) else outlined(made)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    doing = f", run on two examples of shape {shape},"
    # Of a network that takes neither, what it says of integers is told.
    dtype = torch.int64 if integers and (takes_integers(model, shape) or not _takes(model, shape)) else torch.float32
    with as_user_error(f"{name}{doing} raised", MODEL_KEY, source_file(factory)), evaluating(model):
        scores = model(torch.zeros(2, *shape, device=device, dtype=dtype))
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else f"a value of type {type(scores).__name__}"
        raise _wrong(MODEL_KEY, f"{name}: its model must map 2 examples to scores of shape {(2, classes)} (got {got})")
    if scores.device.type != "meta" and are_probabilities(scores):
        _log.warning("%s: %s", name, SOFTMAX)
    return made


def takes_integers(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a network runs on integers (int64)."""
    return _takes(model, shape, torch.int64)


def _takes(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> bool:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with evaluating(model):
            model(torch.zeros(2, *shape, device=device, dtype=dtype))
    except Exception:  # noqa: BLE001 - whatever a user's network raises
        return False
    return True


def with_inputs_for(model: nn.Module, data: DataSet) -> DataSet:
    """The data as a network takes them: integers stay integers (int64) where it runs on them, else become float32."""
    if not data.of_integers:
        return data
    if takes_integers(model, data.shape):
        return data.with_inputs(torch.int64)
    text = f"{data.name}: the inputs are integers, which the network does not accept, so they become float32"
    warnings.warn(text, stacklevel=2)
    return data.with_inputs(torch.float32)


def build_task_model(
    factory: Callable[..., Any] | None, name: str, shape: tuple[int, ...], classes: int, root: Path | None, data: Any
) -> nn.Module:
    """Call the model factory of a task; what it makes is checked on the task's own batches later.

    Args:
        factory: called with those of the keywords shape, input_shape, classes, num_classes, root, data_root and example
            that its signature names and that are known; one that returns a `Task` stands for that task's own.
        name: of the factory, for messages.
        shape: of one example; (): it is not one tensor.
        classes: 0: not known.
        root: the folder that the user named, or None.
        data: of the task, for an example; None: not read.

    Raises:
        UserError: there is none, it needs other arguments, raises, or returns no module.
    """
    if factory is None:
        whose = "the Task" if name == WHOLE else f"{name}: its Task"
        raise _wrong(MODEL_KEY, f"{whose} has no model: give one, or name another with --model")
    offered: dict[str, Any] = {"root": root, "data_root": root}
    if shape:
        offered |= {"shape": shape, "input_shape": shape}
    if classes:
        offered |= {"classes": classes, "num_classes": classes}
    if data is not None:
        offered["example"] = _Lazy(lambda: data.train.first(1))
    handed_on = {"num_classes": classes} if classes else {}
    model = _called(factory, offered, MODEL_KEY, handed_on)
    if isinstance(model, Task):
        return build_task_model(model.model, name, shape, classes, root, data)
    if not isinstance(model, nn.Module):
        name = name_of(factory) if name == WHOLE else name
        raise _wrong(MODEL_KEY, f"{name} returned a value of type {type(model).__name__}, not a torch.nn.Module")
    return model


@dataclass(frozen=True)
class _Lazy:
    """An argument that is made only for a function that names it."""

    make: Callable[[], Any]


def build_user_data(factory: Callable[..., Any], root: Path | None) -> DataSet | Task:
    """Call a user's data factory, and check what it returns.

    Args:
        factory: called with those of the keywords root and data_root that its signature names. It returns a `Task`,
            a `DataSet`, or a mapping with the keys "train" and "test", optionally "validation" (each a pair of inputs
            [N, ...] and labels [N], numpy arrays or tensors) and "classes". See `user_data.read_data`.
        root: the folder that the user named, or None.

    Raises:
        UserError: it needs other arguments, raises, or returns something else; everything that is wrong at once.
    """
    returned = _called(factory, {"root": root, "data_root": root}, DATA_KEY)
    if isinstance(returned, Task):
        return returned
    data, wrong = read_data(name_of(factory), returned)
    if data is None:
        raise UserError(Problem(DATA_KEY, f"{name_of(factory)}: {message}") for message in wrong)
    return data


def _called(
    factory: Callable[..., Any],
    offered: Mapping[str, Any],
    key: str,
    handed_on: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Call a factory with those of the offered keywords that its signature names, and that a partial does not bind.

    What is `handed_on` goes to one with ``**kwargs`` too, where it is given no other keyword of the same value; unless
    whatever it hands its keywords to takes none of that name.
    """
    name = name_of(factory)
    if isinstance(factory, nn.Module) or not callable(factory):
        what = "a network, not a function that returns one" if isinstance(factory, nn.Module) else shown(factory)
        raise _wrong(key, f"must be a function, or package.module:function (got {what})")
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        parameters = []
    bound = factory.keywords if isinstance(factory, functools.partial) else {}
    by_keyword = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - set(bound)
    given = {word: value for word, value in offered.items() if word in by_keyword}
    given = {word: value.make() if isinstance(value, _Lazy) else value for word, value in given.items()}
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in starred and p.name not in given]
    if needed:
        raise _wrong(key, f"{name} needs {', '.join(needed)}, but only {', '.join(offered)} are passed, by keyword")
    more: dict[str, Any] = {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [*given.values(), *(offered[word] for word in bound if word in offered)]
        more = {word: value for word, value in handed_on.items() if value not in known}
    drawn = torch.get_rng_state()
    with as_user_error(f"{name} raised", key, source_file(factory)):
        try:
            return factory(**given, **more)
        except TypeError as error:
            if not any(f"'{word}'" in str(error) for word in more):
                raise
        torch.set_rng_state(drawn)
        return factory(**given)


def _wrong(key: str, message: str) -> UserError:
    return UserError([Problem(key, message)])
