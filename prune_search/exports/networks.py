"""Describes the exported networks as data, and measures their costs and how closely their outputs agree."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.compact.as_called import AsCalled
from prune_search.compact.config_file import COMPACT, COMPACT_FILE, CONFIG_FILE, MASKED, config
from prune_search.compact.cutting import compact
from prune_search.compact.experts import Cut, without_experts
from prune_search.compact.file_names import PROGRAM_FILE
from prune_search.compact.from_graph import Smaller, UncapturedError, smaller
from prune_search.compact.graph import Described
from prune_search.compact.latency import latencies, machine_name
from prune_search.compact.metrics import BATCHES, FORMAT, sizes
from prune_search.compact.tracing import UndescribedError, described
from prune_search.exports.onnx_file import relative_difference
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.storage.files import put_file
from prune_search.storage.json_files import json_bytes
from prune_search.storage.measurements import Measurements
from prune_search.storage.tensors import encode
from prune_search.tasks.experts import closed_routers
from prune_search.tasks.structures import device_of, repeated, some_examples
from prune_search.trial.folder import METRICS_FILE, read_metrics

# Seconds: a larger batch of which one pass would take longer is not timed.
SLOW_S = 5.0


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished network, to be looked at.

    Attributes:
        model: with its masks applied, in evaluation mode, on the CPU.
        masks: of its weights.
        inputs: some examples, [N, …] or `Inputs`, on the CPU.
        identity: what tells it from others, for stored measurements.
        threads: of torch, as its recipe says.
    """

    model: nn.Module
    masks: MaskSet
    inputs: Any
    identity: Mapping[str, Any]
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a folder as data.

    Attributes:
        masked, compact: None where the network cannot be described.
        reason: why it cannot; else empty.
        apart: the largest difference of their outputs on some examples, relative to the largest output.
        graph: the compact network as torch.export's graph, where the other is missing or has channels that do nothing.
        cut: the network without removed experts, where torch.export cannot follow it.
    """

    masked: Described | None = None
    compact: Described | None = None
    reason: str = ""
    apart: float = 0.0
    graph: Smaller | None = None
    cut: Cut | None = None

    @property
    def removed_experts(self) -> Mapping[str, tuple[int, int]]:
        """Experts that were cut out, and all of them, by the name of their list."""
        cut = self.cut if self.graph is None else self.graph.cut
        return {} if cut is None else cut.removed

    @property
    def smallest(self) -> nn.Module | None:
        """The compact network that is measured and written as ONNX; None where there is none."""
        if self.graph is not None:
            return AsCalled(self.graph).eval()
        return self.compact if self.cut is None else self.cut.network


def describe_finished(finished: Finished, multiple: int = 1) -> Networks:
    """A finished network as data, and as a smaller network.

    Args:
        finished: the network.
        multiple: widths of the compact network are rounded up to a multiple of it.
    """
    found = _described(finished, multiple)
    if found.compact is not None and not has_idle_channels(found.compact):
        return found
    try:
        small = smaller(finished.model, finished.inputs, multiple)
    except UncapturedError as error:
        cut = without_experts(finished.model, finished.inputs)
        if found.compact is not None:
            return found
        reasons = (found.reason, str(error), "" if cut is None else cut.reason)
        return replace(found, reason="; ".join(filter(None, reasons)), cut=cut)
    before = finished.model if found.compact is None else found.compact
    if _parameters(small.network) >= _parameters(before):
        return found
    return replace(found, graph=small, apart=max(found.apart, small.apart))


def _described(finished: Finished, multiple: int) -> Networks:
    """What can be described as data."""
    if not isinstance(finished.inputs, Tensor):
        return Networks(reason="it takes more than one tensor")
    if not isinstance(finished.model(finished.inputs[:1]), Tensor):
        return Networks(reason="it returns more than one tensor")
    try:
        masked = described(finished.model, tuple(finished.inputs.shape[1:]))
    except UndescribedError as error:
        return Networks(reason=str(error))
    small = compact(masked, masked.description.shape, multiple)
    with torch.no_grad():
        apart = relative_difference(small(finished.inputs), finished.model(finished.inputs))
    return Networks(masked, small, "", apart)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def has_idle_channels(model: nn.Module) -> bool:
    """Whether some weight [outputs, inputs, …] still has a row or a column that is 0 everywhere."""
    return any(
        bool((weight.detach() == 0).movedim(dim, 0).flatten(1).all(1).any())
        for weight in model.parameters()
        if weight.dim() > 1
        for dim in (0, 1)
    )


def write_networks(folder: Path, networks: Networks) -> None:
    """Add config.json and compact.safetensors of a network that can be described, and program.pt2 where it is smaller.

    Raises:
        StorageError: they could not be written.
    """
    if networks.graph is not None:
        buffer = io.BytesIO()
        torch.export.save(networks.graph.program, buffer)
        put_file(folder / PROGRAM_FILE, buffer.getvalue())
    if networks.masked is None or networks.compact is None:
        return
    put_file(folder / COMPACT_FILE, encode(networks.compact.state_dict()))
    put_file(folder / CONFIG_FILE, config({MASKED: networks.masked, COMPACT: networks.compact}))


def costs_of(finished: Finished, networks: Networks, measurements: Measurements) -> dict[str, Any]:
    """Sizes, and latencies of the dense, the masked and the compact network on this machine's CPU, as plain data."""
    example = some_examples(finished.inputs, slice(1))
    small = networks.smallest or finished.model
    dense = _dense(networks.masked, finished.masks) if networks.masked is not None else finished.model
    models = {"dense": dense, MASKED: networks.masked or finished.model, COMPACT: small}
    machine = machine_name(device_of(example))
    shape = {"widths": {name: list(tensor.shape) for name, tensor in small.state_dict().items()}}
    taken: list[dict[str, Any]] = []
    too_slow: dict[str, float] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(finished.threads)
    try:
        size = measurements.of(
            {"kind": "export sizes", "format": FORMAT, **finished.identity, **shape},
            lambda: sizes(finished.model, finished.masks, example, small),
        )
        for batch in BATCHES:
            expected = batch * max(taken[0][name]["median"] for name in models) / 1000.0 if taken else 0.0
            if expected > SLOW_S:
                too_slow[str(batch)] = expected
                continue
            what = {"kind": "export latency", "format": FORMAT, "batch": batch, "machine": machine}
            figures = measurements.of({**what, **finished.identity, **shape}, lambda: _timed(models, example, batch))  # noqa: B023
            bars = {name: {key: figures[f"{name} {key}"] for key in ("median", "low", "high")} for name in models}
            taken.append({"batch": batch, "device": machine, "threads": finished.threads, **bars})
    finally:
        torch.set_num_threads(before)
    about: dict[str, Any] = {"outputs_apart": networks.apart, "described": networks.reason or True}
    if too_slow:
        about["not_timed_s"] = too_slow
    if closed_routers(finished.model):
        about["experts"] = {name: list(counts) for name, counts in networks.removed_experts.items()}
    if networks.graph is not None:
        about["program"] = networks.graph.reason or True
        about["program_batch"] = networks.graph.batch
        about["program_length"] = networks.graph.length
        about["program_inputs"] = list(networks.graph.captured.inputs)
    return {"sizes": dict(size), "latency_ms": taken, **about}


def _timed(models: Mapping[str, nn.Module], example: Any, batch: int) -> dict[str, float]:
    found = latencies(models, repeated(example, batch))
    return {
        f"{name} {key}": getattr(latency, key) for name, latency in found.items() for key in ("median", "low", "high")
    }


def _dense(masked: Described, masks: MaskSet) -> Described:
    """The network with nothing at 0: its speed is that of the dense one, which had the same layers."""
    full = described(masked, masked.description.shape)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, mask in masks.present.items():
            weight = full.get_parameter(name)
            weight[~mask] = 0.01 * torch.randn(int((~mask).sum()), generator=draw)
    return full


def add_costs(folder: Path, costs: Mapping[str, Any]) -> None:
    """Add what it costs to the folder's metrics.json.

    Raises:
        StorageError: it could not be written.
    """
    data = {**read_metrics(folder), "costs": costs}
    put_file(folder / METRICS_FILE, json_bytes(data))
