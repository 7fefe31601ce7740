"""Postpones the import of torch's compiler, which a process's first optimizer triggers and nothing here uses."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

COMPILER = "torch._dynamo"


@contextlib.contextmanager
def importing_compiler() -> Iterator[None]:
    """Within, torch's compiler may be imported, and does not warn of torch's own modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def postpone_compiler_import() -> None:
    """Let torch's optimizers work without torch's compiler until something else in this process imports it.

    Torch marks the methods of its optimizers for the compiler, and imports it to do so: seconds in each process, and
    a hundred megabytes. As long as nobody has imported it nothing is compiled, and the methods do the same without the
    marks. Once somebody has, they are used as torch wrote them. Where torch has other names for all this, it stays as
    it is.
    """
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = getattr(Optimizer, name)
        if _marked_by(method, "inner"):
            setattr(Optimizer, name, _unmarked(method))
    for kind in vars(torch.optim).values():
        if isinstance(kind, type) and issubclass(kind, Optimizer) and _marked_by(kind.step, "_use_grad"):
            kind.step = _step_unmarked(kind.step)  # type: ignore[method-assign]


def _marked_by(method: Any, name: str) -> bool:
    """Whether torch has put its function `name` around a method; what was unmarked before is not."""
    code = getattr(method, "__code__", None)
    return code is not None and code.co_name == name and hasattr(method, "__wrapped__")


def _unmarked(marked: Any) -> Callable[..., Any]:
    plain = marked.__wrapped__

    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        return (marked if COMPILER in sys.modules else plain)(*args, **kwargs)

    return method


def _step_unmarked(marked: Any) -> Callable[..., Any]:
    """The same for `step`, whose mark also says whether gradients go through it."""
    plain = marked.__wrapped__

    @functools.wraps(plain)
    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if COMPILER in sys.modules:
            return marked(self, *args, **kwargs)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return plain(self, *args, **kwargs)

    return step
