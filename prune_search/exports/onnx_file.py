"""Writes a network as an ONNX file and checks it against PyTorch with onnxruntime."""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import put_file

ONNX_FILE = "model.onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
# Relative to the largest output; another library adds up in another order.
TOLERANCE = 1e-4
OPSET = 18


def check_installed() -> None:
    """Find out before anything is run whether ONNX files can be written here.

    Raises:
        UserError: a library is missing.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        text = f"needs {', '.join(missing)}: pip install 'prune-search[onnx]'"
        raise UserError([Problem("--onnx", text)])


def onnx_bytes(model: nn.Module, shape: tuple[int, ...]) -> bytes:
    """A network as an ONNX model: input ``x`` [batch, *shape], output ``y``, the batch of any size."""
    example = torch.zeros(2, *shape)
    with tempfile.TemporaryDirectory() as scratch, _quietly():
        path = Path(scratch) / ONNX_FILE
        torch.onnx.export(
            model.eval(),
            (example,),
            str(path),
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
        return path.read_bytes()


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells its progress, and warns of what other parts of torch will change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            from contextlib import redirect_stdout

            with redirect_stdout(nowhere):
                yield
    finally:
        logger.setLevel(level)


def runner(path: Path) -> Callable[[Tensor], Tensor]:
    """From inputs to outputs, by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> Tensor:
        (out,) = session.run(None, {"x": inputs.detach().cpu().numpy()})
        return torch.from_numpy(out)

    return run


def write_onnx(model: nn.Module, folder: Path, inputs: Tensor) -> float:
    """Write model.onnx, and compare it with torch on batches of several sizes.

    Args:
        model: on the CPU, in evaluation mode.
        folder: to write to.
        inputs: at least one example, [N, …].

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        UserError: a library is missing, the network has an operation that ONNX lacks, or the outputs differ.
    """
    check_installed()
    try:
        put_file(folder / ONNX_FILE, onnx_bytes(model, tuple(inputs.shape[1:])))
        run = runner(folder / ONNX_FILE)
        apart = max(_apart(model, run, inputs[:count]) for count in (1, 3, len(inputs)))
    except (RuntimeError, ValueError, TypeError) as error:
        lines = str(error).splitlines() or [""]
        text = f"the network cannot be written as ONNX ({type(error).__name__}: {lines[0][:200]})"
        raise UserError([Problem("--onnx", text)]) from error
    if not apart <= TOLERANCE:
        (folder / ONNX_FILE).unlink(missing_ok=True)
        text = f"onnxruntime and torch differ by {apart:.1e} of the largest output, more than {TOLERANCE:.0e}"
        raise UserError([Problem("--onnx", text)])
    return apart


def _apart(model: nn.Module, run: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    with torch.no_grad():
        expected = model(inputs)
    return relative_difference(run(inputs), expected)


def relative_difference(got: Tensor, expected: Tensor) -> float:
    """The largest absolute difference of two tensors [B, …], relative to the largest expected magnitude."""
    scale = float(expected.abs().max())
    return float((got - expected).abs().max()) / (scale or 1.0)
