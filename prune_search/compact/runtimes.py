"""The ways to run a network in use: eager PyTorch, torch.compile, or onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.needed import OPSET, lacks_onnx
from prune_search.pruning.structure.capture import quietly
from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.batches import named_tensors
from prune_search.tasks.passes import evaluating
from prune_search.tasks.structures import device_of, tensors_in
from prune_search.training.compiler_import import importing_compiler


def _eager(network: nn.Module, inputs: Any) -> nn.Module:
    return network


def _compiled(network: nn.Module, inputs: Any) -> nn.Module:
    """Compiled for the inputs' sizes; its first pass, which compiles it, is run here."""
    with importing_compiler():
        compiled: Any = torch.compile(network, dynamic=False)
    try:
        with evaluating(network), quietly(), torch.no_grad():
            compiled(inputs)
    except Exception as error:
        raise _cannot("torch.compile", error) from error
    return compiled  # type: ignore[no-any-return]


class _Session(nn.Module):
    """An onnxruntime session that is called as the network is; it gives no tensors, for it is only timed.

    Attributes:
        session: of onnxruntime.
        network: whose inputs it takes.
    """

    def __init__(self, session: Any, network: nn.Module) -> None:
        super().__init__()
        self.session = session
        self.network = network

    def forward(self, inputs: Any) -> Any:
        """Arrays of the outputs."""
        given = [tensor.numpy() for tensor in named_tensors(self.network, inputs).values()]
        names = [one.name for one in self.session.get_inputs()]
        return self.session.run(None, dict(zip(names, given, strict=True)))


class _Flat(nn.Module):
    """A network that takes its input tensors one by one and gives a tuple of its output tensors."""

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        from prune_search.tasks.batches import with_tensors

        names = named_tensors(self.network, self.inputs)
        return tuple(tensors_in(self.network(with_tensors(self.inputs, dict(zip(names, tensors, strict=True))))))


def _onnxruntime(network: nn.Module, inputs: Any) -> nn.Module:
    """A session on the processor, for the inputs' sizes, with as many threads as torch has."""
    if lacks := lacks_onnx():
        raise UserError([Problem("search.objectives", f"latency on onnxruntime needs {lacks}")])
    if device_of(inputs).type != "cpu":
        raise UserError([Problem("search.objectives", "latency on onnxruntime is measured on a processor only")])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    tensors = tuple(named_tensors(network, inputs).values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            with evaluating(network), quietly(), torch.no_grad():
                flat = _Flat(network, inputs).eval()
                program = torch.onnx.export(flat, tensors, dynamo=True, opset_version=OPSET, verbose=False)
                assert program is not None  # of dynamo's exporter
                program.save(str(path))
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _cannot("onnxruntime", error) from error
    return _Session(session, network)


def _cannot(what: str, error: Exception) -> UserError:
    said = (str(error).splitlines() or [""])[0][:200]
    return UserError([Problem("search.objectives", f"{what} cannot run this network ({type(error).__name__}: {said})")])


# By the name that metrics have for it: from a network and inputs [B, …] to one that is called with such inputs.
RUNTIMES: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "eager": _eager,
    "compiled": _compiled,
    "onnx": _onnxruntime,
}
