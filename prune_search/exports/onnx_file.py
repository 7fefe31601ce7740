"""Writes a network as an ONNX file and checks it against PyTorch with onnxruntime."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.needed import INSTALL_ONNX, OPSET, missing_onnx
from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import put_file
from prune_search.tasks.batches import named_tensors, with_tensors
from prune_search.tasks.outputs import logits_of
from prune_search.tasks.structures import examples_in, mapped, repeated, tensors_in

ONNX_FILE = "model.onnx"
# Relative to the largest output; another library adds up in another order.
TOLERANCE = 1e-4


def check_installed() -> None:
    """Find out before anything is run whether ONNX files can be written here.

    Raises:
        UserError: a library is missing.
    """
    if missing := missing_onnx():
        raise UserError([Problem("--onnx", f"needs {missing}: {INSTALL_ONNX}")])


class _Flat(nn.Module):
    """A network that is called with its input tensors one by one, and returns its scores alone."""

    def __init__(self, model: nn.Module, inputs: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.names = model, inputs, names

    def forward(self, *tensors: Tensor) -> Tensor:
        return logits_of(self.model(with_tensors(self.inputs, dict(zip(self.names, tensors, strict=True)))))


def onnx_bytes(model: nn.Module, inputs: Any) -> bytes:
    """A network as an ONNX model, the batch of any size: one output ``y``, and inputs as `named_tensors` names them.

    Indices [B, length] can have any length too, where the network's code lets them.

    Args:
        model: on the CPU.
        inputs: at least one example.
    """
    any_length = _has_length(inputs)
    try:
        return _written(model, inputs, any_length)
    except (RuntimeError, ValueError, TypeError):
        if not any_length:
            raise
    # Its code turns the length into a number: the batch alone, then.
    return _written(model, inputs, any_length=False)


def _is_text(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and not tensor.is_floating_point() and tensor.shape[1] > 2


def _has_length(inputs: Any) -> bool:
    return any(_is_text(tensor) for tensor in tensors_in(inputs))


def _written(model: nn.Module, inputs: Any, any_length: bool) -> bytes:
    examples = repeated(inputs, 2)
    tensors = named_tensors(model.eval(), examples)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    # What has no place for each example keeps its shape.
    shapes: tuple[Any, ...] = tuple(
        ({0: batch, 1: length} if any_length and _is_text(one) else {0: batch}) if one.dim() and len(one) == 2 else {}
        for one in tensors.values()
    )
    with torch.no_grad():
        plain = isinstance(examples, Tensor) and isinstance(model(examples), Tensor)
    if not plain:
        model, shapes = _Flat(model, examples, list(tensors)).eval(), (shapes,)
    with tempfile.TemporaryDirectory() as scratch, _quietly():
        path = Path(scratch) / ONNX_FILE
        torch.onnx.export(
            model,
            tuple(tensors.values()),
            str(path),
            input_names=list(tensors),
            output_names=["y"],
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
        return path.read_bytes()


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells its progress, warns of what torch will change, and prints what it then raises."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def runner(path: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """From inputs by name to outputs, by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        (out,) = session.run(None, {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()})
        return torch.from_numpy(out)

    return run


def write_onnx(model: nn.Module, folder: Path, inputs: Any) -> float:
    """Write model.onnx, and compare it with torch on batches of several sizes, and on a shorter text.

    Args:
        model: on the CPU, in evaluation mode.
        folder: to write to.
        inputs: at least one example: a tensor [N, …], or `prune_search.tasks.batches.Inputs`.

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        UserError: a library is missing, the network has an operation that ONNX lacks, or the outputs differ.
    """
    check_installed()
    try:
        put_file(folder / ONNX_FILE, onnx_bytes(model, inputs))
        run = runner(folder / ONNX_FILE)
        apart = max(_apart(model, run, repeated(inputs, count)) for count in (1, 3, examples_in(inputs)))
        if _has_length(inputs) and fixed_length(folder) is None:
            shorter = mapped(inputs, lambda tensor: tensor[:, :-1] if _is_text(tensor) else tensor)
            apart = max(apart, _apart(model, run, shorter))
    except (RuntimeError, ValueError, TypeError) as error:
        (folder / ONNX_FILE).unlink(missing_ok=True)
        cause = _first_cause(error)
        lines = str(cause).splitlines() or [""]
        text = f"the network cannot be written as ONNX ({type(cause).__name__}: {lines[0][:200]})"
        raise UserError([Problem("--onnx", text)]) from error
    if not apart <= TOLERANCE:
        (folder / ONNX_FILE).unlink(missing_ok=True)
        text = f"onnxruntime and torch differ by {apart:.1e} of the largest output, more than {TOLERANCE:.0e}"
        raise UserError([Problem("--onnx", text)])
    return apart


def fixed_length(folder: Path) -> int | None:
    """The only length of indices [B, length] that model.onnx takes; None where it takes any, or no indices."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), providers=["CPUExecutionProvider"])
    sizes = [one.shape[1] for one in session.get_inputs() if "int" in one.type and len(one.shape) == 2]
    fixed = [size for size in sizes if isinstance(size, int) and size > 2]
    return fixed[0] if fixed else None


def _first_cause(error: BaseException) -> BaseException:
    """What an error began with: the exporter's own words are about its steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _apart(model: nn.Module, run: Callable[[Mapping[str, Tensor]], Tensor], inputs: Any) -> float:
    with torch.no_grad():
        expected = logits_of(model(inputs))
    return relative_difference(run(named_tensors(model, inputs)), expected)


def relative_difference(got: Tensor, expected: Tensor) -> float:
    """The largest absolute difference of two tensors [B, …], relative to the largest expected magnitude."""
    scale = float(expected.abs().max())
    return float((got - expected).abs().max()) / (scale or 1.0)
