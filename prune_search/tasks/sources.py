"""Represents code and settings as text, so that a digest changes when they do.

Nothing here may hold an address or an order that differs from process to process: the text of the same code is the
same everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import linecache
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from enum import Enum
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy
import torch

from prune_search.tasks.digest import ordered_tensors_digest

DEEPEST = 6
PLAIN = (bool, int, float, complex, str, bytes, Enum, type(None), range, torch.dtype, torch.device, numpy.generic)


def bare(thing: Any) -> Any:
    """The function, class or object under wrappers, partials and bound methods."""
    while True:
        if isinstance(thing, functools.partial):
            thing = thing.func
        elif isinstance(thing, MethodType):
            thing = thing.__func__
        elif hasattr(thing, "__wrapped__") and not isinstance(thing, type):
            thing = thing.__wrapped__
        else:
            return thing if isinstance(thing, FunctionType | type) or inspect.isbuiltin(thing) else type(thing)


def source_file(thing: Any) -> str | None:
    """The file (or notebook cell) in which a function or class was written, if it was written in Python."""
    thing = bare(thing)
    # Code knows its file; a class knows only a module's name, and "__main__" is another file in a worker process.
    for code in _codes(thing):
        return code.co_filename
    return getattr(sys.modules.get(getattr(thing, "__module__", "")), "__file__", None)


def source(thing: Any) -> str:
    """The source text of the file that defines a function or class; where it can't be had, its name and bytecode."""
    file = source_file(thing)
    if file is not None:
        linecache.checkcache(file)
        lines = linecache.getlines(file, getattr(bare(thing), "__globals__", None))
        if lines:
            return "".join(lines)
    thing = bare(thing)
    return "\n".join([thing.__qualname__, *(_bytecode(code) for code in _codes(thing))])


def captured(thing: Any, depth: int = 0) -> str:
    """The settings that a callable carries besides its source: arguments of a partial, cells, defaults, attributes."""

    def told(value: Any) -> str:
        return described(value, depth + 1)

    if isinstance(thing, functools.partial):
        return f"partial {captured(thing.func, depth + 1)} {told(thing.args)} {told(thing.keywords)}"
    if isinstance(thing, MethodType):
        return f"method {captured(thing.__func__, depth + 1)} {told(thing.__self__)}"
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        return f"{thing.__qualname__} {told([cells, thing.__defaults__, thing.__kwdefaults__])}"
    if isinstance(thing, type) or inspect.isbuiltin(thing):
        return thing.__qualname__
    return f"{type(thing).__qualname__} {told(getattr(thing, '__dict__', None))}"


def enclosed(kind: type) -> str:
    """The settings that a class made in a function carries besides its source: attributes, and what methods enclose.

    Empty for a class of a module, of which there is one only.
    """
    if "<locals>" not in kind.__qualname__:
        return ""
    found: dict[str, Any] = {}
    for name, member in vars(kind).items():
        function = inspect.unwrap(getattr(member, "__func__", None) or getattr(member, "fget", None) or member)
        if isinstance(function, FunctionType):
            # `super()` encloses the class itself.
            cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
            found[name] = {free: cell.cell_contents for free, cell in cells if free != "__class__" and _filled(cell)}
        elif not name.startswith("__"):
            found[name] = member
    return described({name: value for name, value in found.items() if value != {}})


def described(value: Any, depth: int = 0) -> str:
    """A setting as text: numbers, words, arrays, functions and what is built of them; of anything else its type."""

    def told(inner: Any) -> str:
        return described(inner, depth + 1)

    if depth > DEEPEST:  # a list or a closure may hold itself
        return "…"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}[{', '.join(told(item) for item in value)}]"
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{told(key)}: {told(item)}' for key, item in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"set{sorted(told(item) for item in value)}"
    if isinstance(value, torch.Tensor):
        return ordered_tensors_digest([("", value)])
    if isinstance(value, numpy.ndarray) and value.dtype.kind in "biufc":
        return f"{value.dtype.str} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, FunctionType | MethodType | functools.partial):
        in_torch = _module(bare(value)).split(".")[0] == "torch"
        return captured(value, depth) if in_torch else f"{captured(value, depth)} {_own_source(bare(value))}"
    if isinstance(value, type) or inspect.isbuiltin(value):
        return f"{_module(value)}.{value.__qualname__}"
    if dataclasses.is_dataclass(value) or isinstance(value, Namespace | SimpleNamespace):
        return f"{type(value).__qualname__} {told(getattr(value, '__dict__', None))}"
    return type(value).__qualname__


def _module(thing: Any) -> str:
    return getattr(thing, "__module__", None) or ""


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is not bound yet
        return False


def _own_source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return "\n".join(_bytecode(code) for code in _codes(thing))


def _codes(thing: Any) -> Iterator[CodeType]:
    """The code of a function, or of each method of a class, in the order in which they are written."""
    members = vars(thing).values() if isinstance(thing, type) else [thing]
    for member in members:
        function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        # A function of another module may be an attribute, and what a decorator such as dataclass writes has no file.
        if isinstance(function, FunctionType) and _module(function) == _module(thing):
            code = getattr(inspect.unwrap(function), "__code__", None)
            if code is not None and code.co_filename != "<string>":
                yield code


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(item) if isinstance(item, CodeType) else described(item) for item in code.co_consts]
    return f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {constants}"
