"""Metrics of the cost of storing and running a pruned network. They need no data and are measured only on request.

They are figures of the *compact* network (`compact.cutting`), which has the same outputs; where a network cannot be
described as data it is cut out of the graph of torch.export (`compact.from_graph`); where that cannot follow it, or
nothing can go, that is the masked network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prune_search.compact.needed import lacks_compiler, lacks_onnx
from prune_search.recipe.axes import METRICS
from prune_search.recipe.facts import Metric
from prune_search.tasks.metrics import Measured

if TYPE_CHECKING:
    import torch
    from torch import nn

    from prune_search.pruning.mask.mask_set import MaskSet
else:
    from prune_search.lazy import torch

# Of the measurements below: a change of what they mean makes them be taken anew.
FORMAT = 2
BATCHES = (1, 64)
OURS = "this project"


def sizes(model: nn.Module, masks: MaskSet, example: Any, small: nn.Module | None = None) -> dict[str, float]:
    """Parameters, operations and bytes of a masked network and of its compact form.

    Args:
        model: with its masks applied; left as it was.
        masks: of its weights.
        example: inputs [N, …].
        small: the compact network, where it is known.

    Returns:
        ``parameters``, ``bytes`` (the safetensors file) and ``flops`` (2 per weight and place, for one input) of the
        dense and the compact network as ``dense NAME`` and ``compact NAME``; ``nonzero``, parameters that are not
        masked; ``packed bytes``, with masks as bits and kept values only; ``sparse flops``, of kept weights only.
    """
    from prune_search.compact.as_called import AsCalled, graph_flops
    from prune_search.compact.flops import flops
    from prune_search.compact.packing import pack
    from prune_search.storage.tensors import encode

    found = {"sparse flops": flops(model, example, masks)}
    small = compact_or_masked(model, example) if small is None else small
    for name, network in (("dense", model), ("compact", small)):
        state = network.state_dict()
        found[f"{name} parameters"] = float(sum(parameter.numel() for parameter in network.parameters()))
        found[f"{name} bytes"] = float(len(encode(state)))
        graph = network.small if isinstance(network, AsCalled) else None
        found[f"{name} flops"] = flops(network, example) if graph is None else graph_flops(graph)
    masked = sum(int((~mask).sum()) for mask in masks.present.values())
    found["nonzero"] = found["dense parameters"] - masked
    found["packed bytes"] = float(len(encode(pack(model.state_dict(), masks))))
    return found


def compact_or_masked(model: nn.Module, example: Any) -> nn.Module:
    """The compact network on the device of the example [1, …]; the masked one if nothing can follow it."""
    from prune_search.compact.as_called import AsCalled
    from prune_search.compact.cutting import compact
    from prune_search.compact.experts import without_experts
    from prune_search.compact.from_graph import UncapturedError, smaller
    from prune_search.compact.tracing import UndescribedError

    try:
        if not isinstance(example, torch.Tensor):
            raise UndescribedError("it takes more than one tensor")
        small = compact(model, tuple(example.shape[1:]))
    except UndescribedError:
        try:
            return AsCalled(smaller(model, example)).eval()
        except UncapturedError:
            cut = without_experts(model, example)
            return model if cut is None or cut.network is None else cut.network
    if example.is_cuda:
        return small.to(example.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    return small


def timed(model: nn.Module, example: Any, batch: int, runtime: str = "eager") -> dict[str, float]:
    """Latency in milliseconds of the masked and the compact network, in turn.

    Args:
        model: with its masks applied.
        example: inputs [N, …]; repeated to the batch.
        batch: examples at a time.
        runtime: of `runtimes.RUNTIMES`.

    Returns:
        ``masked`` and ``compact``, the medians; with `` low`` and `` high`` behind, the quartiles.
    """
    from prune_search.compact.latency import latencies
    from prune_search.compact.runtimes import RUNTIMES
    from prune_search.tasks.structures import repeated, some_examples

    networks = {"masked": model, "compact": compact_or_masked(model, some_examples(example, slice(1)))}
    inputs = repeated(example, batch)
    run = {name: RUNTIMES[runtime](network, inputs) for name, network in networks.items()}
    found = {}
    for name, latency in latencies(run, inputs).items():
        found.update({name: latency.median, f"{name} low": latency.low, f"{name} high": latency.high})
    return found


def masks_of(measured: Measured) -> MaskSet:
    """The masks; where none are known, what is 0 counts as masked."""
    from prune_search.pruning.mask.mask_set import MaskSet
    from prune_search.tasks.network import prunable_weights

    if isinstance(measured.masks, MaskSet):
        return measured.masks
    return MaskSet({name: weight.detach() != 0 for name, weight in prunable_weights(_model(measured)).items()})


def _model(measured: Measured) -> nn.Module:
    model = measured.model
    if model is None:
        raise ValueError("this metric needs the network, which was not given")
    return model


def _example(measured: Measured) -> Any:
    if measured.data is None:
        raise ValueError("this metric needs the shape of an example, but no data was given")
    return measured.data.validation.first(max(BATCHES))


def size_figures(measured: Measured) -> Mapping[str, float]:
    """`sizes`, measured once per network."""
    from prune_search.tasks.structures import some_examples

    what = {"kind": "sizes", "format": FORMAT}
    return measured.take(
        what, lambda: sizes(_model(measured), masks_of(measured), some_examples(_example(measured), slice(1)))
    )


def time_figures(measured: Measured, batch: int, runtime: str = "eager") -> Mapping[str, float]:
    """`timed`, measured once per network, machine and runtime."""
    from prune_search.compact.latency import machine_name
    from prune_search.tasks.structures import device_of

    example = _example(measured)
    what = {"kind": "latency", "format": FORMAT, "batch": batch, "machine": machine_name(device_of(example))}
    if runtime != "eager":
        what["runtime"] = runtime
    return measured.take(what, lambda: timed(_model(measured), example, batch, runtime))


@METRICS.register(
    "sparsity/all_parameters",
    summary="removed/total over all parameters of the network, those that are never pruned among them, 0…1",
    source=OURS,
    facts=Metric(mid_training=True),
)
def sparsity_of_all_parameters(measured: Measured) -> float:
    """The share of all parameters that is removed: of biases and normalizations, embeddings and whatever else there is.

    Example:
        Of 90 weights 45 are removed, and 10 more parameters are never pruned: 45/100 = 0.45.
    """
    total = measured.parameters or sum(parameter.numel() for parameter in _model(measured).parameters())
    masks = masks_of(measured)
    removed = sum(mask.numel() - masks.kept[name] for name, mask in masks.items())
    return (removed + sum(int((~mask).sum()) for mask in masks.held.values())) / total


@METRICS.register(
    "model/parameters",
    summary="parameters of the compact network",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def parameters(measured: Measured) -> float:
    """Parameters of the physically smaller network."""
    return size_figures(measured)["compact parameters"]


@METRICS.register(
    "model/nonzero",
    summary="parameters that are not masked",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def nonzero(measured: Measured) -> float:
    """Parameters that are not masked, biases and normalizations among them."""
    return size_figures(measured)["nonzero"]


@METRICS.register(
    "model/bytes",
    summary="bytes of the compact network's file (safetensors)",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def file_bytes(measured: Measured) -> float:
    """Bytes on disk of the compact network, dense."""
    return size_figures(measured)["compact bytes"]


@METRICS.register(
    "model/packed_bytes",
    summary="bytes of the network's file if stored as mask bits and kept values",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def packed_bytes(measured: Measured) -> float:
    """Bytes on disk of the masked network, sparse-packed."""
    return size_figures(measured)["packed bytes"]


@METRICS.register(
    "model/flops",
    summary="operations of the compact network for one input, 2 per weight and position",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def dense_flops(measured: Measured) -> float:
    """Multiplications and additions that dense code takes for the compact network."""
    return size_figures(measured)["compact flops"]


@METRICS.register(
    "model/sparse_flops",
    summary="operations of kept weights for one input: a bound that only sparse kernels could reach",
    source="Blalock et al. 2020, What is the State of Neural Network Pruning?, 2003.03033",
    facts=Metric(best="minimize", always=False, whole=True),
)
def sparse_flops(measured: Measured) -> float:
    """Multiplications and additions of kept weights; a figure of theory, not of speed."""
    return size_figures(measured)["sparse flops"]


@METRICS.register(
    "latency/batch-1",
    summary="milliseconds of a forward pass of the compact network with one example, on the trial's device (median)",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def latency_1(measured: Measured) -> float:
    """Median latency at batch 1, warmed up, in milliseconds."""
    return time_figures(measured, 1)["compact"]


@METRICS.register(
    "latency/batch-64",
    summary="milliseconds of a forward pass of the compact network with 64 examples, on the trial's device (median)",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def latency_64(measured: Measured) -> float:
    """Median latency at batch 64, warmed up, in milliseconds."""
    return time_figures(measured, 64)["compact"]


@METRICS.register(
    "latency/masked-batch-1",
    summary="the same for the masked network with one example; dense kernels multiply its zeros too",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True),
)
def latency_masked(measured: Measured) -> float:
    """Median latency of the masked network at batch 1, in milliseconds."""
    return time_figures(measured, 1)["masked"]


@METRICS.register(
    "latency/compiled-batch-1",
    summary="the same for the compact network with one example, compiled by torch.compile",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True, lacks=lacks_compiler),
)
def latency_compiled_1(measured: Measured) -> float:
    """Median latency at batch 1 by torch.compile, in milliseconds."""
    return time_figures(measured, 1, "compiled")["compact"]


@METRICS.register(
    "latency/compiled-batch-64",
    summary="the same with 64 examples, compiled by torch.compile",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True, lacks=lacks_compiler),
)
def latency_compiled_64(measured: Measured) -> float:
    """Median latency at batch 64 by torch.compile, in milliseconds."""
    return time_figures(measured, 64, "compiled")["compact"]


@METRICS.register(
    "latency/onnx-batch-1",
    summary="the same for the compact network with one example, run by onnxruntime on the processor",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True, lacks=lacks_onnx),
)
def latency_onnx_1(measured: Measured) -> float:
    """Median latency at batch 1 by onnxruntime, in milliseconds."""
    return time_figures(measured, 1, "onnx")["compact"]


@METRICS.register(
    "latency/onnx-batch-64",
    summary="the same with 64 examples, run by onnxruntime on the processor",
    source=OURS,
    facts=Metric(best="minimize", always=False, whole=True, lacks=lacks_onnx),
)
def latency_onnx_64(measured: Measured) -> float:
    """Median latency at batch 64 by onnxruntime, in milliseconds."""
    return time_figures(measured, 64, "onnx")["compact"]
