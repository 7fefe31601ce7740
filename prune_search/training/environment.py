"""The device and precision of a trial, and the environment class within which results are identical bit for bit."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError, not_one_of, shown

if TYPE_CHECKING:
    import torch
else:
    from prune_search.lazy import torch

PRECISIONS: tuple[str, ...] = ("fp32", "bf16")
"""The values of ``train.precision``: full float32, and bfloat16 autocast over float32 weights."""

_CUDA = re.compile(r"cuda(?::(?P<index>[0-9]{1,3}))?", re.ASCII)


def environment_class(
    device: torch.device, precision: str, threads: int, workers: int | str = 1, sharded: bool = False
) -> dict[str, str | int]:
    """What must be equal for two runs to be comparable bit for bit (on a CPU; elsewhere it is only recorded).

    Args:
        device: where the training runs.
        precision: one of `PRECISIONS`.
        threads: CPU threads that torch may use.
        workers: among which every batch is split; of a range, as ``2-8``.
        sharded: whether they divide the network among themselves: gradients and norms are summed in another order.

    Returns:
        The keys torch, device, capability, threads and precision; of several workers how many, and whether they are
        sharded. The capability is the widest instruction set that torch uses on a CPU ("AVX512"), or the compute
        capability and name of a CUDA device ("9.0 NVIDIA H200").
    """
    describe = _CAPABILITIES.get(device.type)
    return {
        "torch": str(torch.__version__),
        "device": device.type,
        "capability": describe(device) if describe else "",
        "threads": threads,
        "precision": precision,
        **({"workers": workers} if workers != 1 else {}),
        **({"sharded": True} if sharded else {}),
    }


def _cpu_capability(device: torch.device) -> str:
    return str(torch.backends.cpu.get_cpu_capability())


def _cuda_capability(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor} {torch.cuda.get_device_name(device)}"


_CAPABILITIES: dict[str, Callable[[torch.device], str]] = {"cpu": _cpu_capability, "cuda": _cuda_capability}


def pick_device(text: str | None) -> torch.device:
    """The device that a user asks for.

    Args:
        text: ``cpu``, ``cuda``, ``cuda:N``; ``auto`` or None for CUDA where there is one and the CPU elsewhere.

    Raises:
        UserError: it is none of these, or this machine has no such device.
    """
    if text is None or text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if text == "cpu":
        return torch.device("cpu")
    match = _CUDA.fullmatch(text)
    if match is None:
        raise UserError([Problem("device", not_one_of(text, ("auto", "cpu", "cuda", "cuda:N")))])
    if not torch.cuda.is_available():
        raise UserError(
            [Problem("device", f"{shown(text)} is not available: torch {torch.__version__} sees no CUDA device")]
        )
    count = torch.cuda.device_count()
    if match["index"] is not None and int(match["index"]) >= count:
        raise UserError(
            [Problem("device", f"{shown(text)} is not available: the CUDA devices are cuda:0 to cuda:{count - 1}")]
        )
    return torch.device(text)


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """What a forward pass is wrapped in: ``with autocast(device, precision)(): …``.

    Returns:
        A function that makes a fresh context: nothing for fp32, bfloat16 autocast for bf16 (weights, optimizer and
        masks stay float32, and bfloat16 needs no loss scaling).

    Raises:
        UserError: the precision is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UserError([Problem("train.precision", not_one_of(precision, PRECISIONS))])
    if precision == "fp32":
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
