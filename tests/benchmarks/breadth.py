"""Half of the units of 24 architectures, by this project and by Torch-Pruning, in one run.

    python tests/benchmarks/breadth.py | tee tests/benchmarks/records/breadth.log
    python tests/benchmarks/breadth.py --networks vit gpt-2

All weights are drawn. `channel` removes half of the units of every set (uniform scope, L1), and the smaller network
is what `prune_search.compact.from_graph.smaller` cuts out of the graph. Torch-Pruning removes half of the channels of
every group by L1, its output layers left out. A network is called exact where its outputs are within 1e-5 of the
masked network's, relative to the largest: of the network in which all that was cut out is 0. Latencies are medians of
passes that take turns.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from breadth_networks import NETWORKS
from torch import Tensor, nn

import prune_search
from prune_search.compact.from_graph import smaller
from prune_search.pruning.structure.capture import capture, quietly
from prune_search.pruning.structure.choices import analyze
from prune_search.pruning.structure.sets import stays_whole
from prune_search.tasks.batches import adapted, named_tensors
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.structures import tensors_in

EXACT, PASSES, MAX_S = 1e-5, 15, 150.0
OUTPUT = "it produces the network's outputs"


def made(name: str) -> tuple[nn.Module, Any]:
    """An architecture with drawn weights, none of them 0 and no two alike, and two examples."""
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            drawn = (
                torch.randn(parameter.shape) * fan**-0.5
                if parameter.dim() > 1
                else 1 + 0.3 * torch.randn(parameter.shape)
            )
            parameter.copy_(drawn)
        for key, buffer in model.named_buffers():
            if buffer.is_floating_point() and key.endswith(("running_mean", "running_var")):
                buffer.add_(0.3 * torch.rand(buffer.shape))
    return adapted(model).eval(), example


def apart(outputs: Any, expected: Any) -> float:
    """The largest difference of output tensors, relative to the largest expected."""
    pairs = list(zip(tensors_in(outputs), tensors_in(expected), strict=True))
    return max(float((one - other).abs().max() / other.abs().max().clamp_min(1e-30)) for one, other in pairs)


def latencies(passes: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of a pass, the median; the networks take turns."""
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(PASSES):
        for name, run in passes.items():
            began = time.perf_counter()
            run()
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values[2:]) for name, values in taken.items()}


def parameters(model: nn.Module) -> int:
    """How many there are."""
    return sum(parameter.numel() for parameter in model.parameters())


def ours(model: nn.Module, example: Any) -> dict[str, float]:
    """Half of the units, cut out."""
    masks = prune_search.find_mask(model, "l1", 0.5, scope="uniform", granularity="channel", batches=[(example, None)])
    masks.apply(model)
    small = smaller(model, example)
    given = list(named_tensors(model, example).values())
    times = latencies({"masked": lambda: model(example), "small": lambda: small.network(*given)})
    return {"left": parameters(small.network), "apart": apart(small.network(*given), model(example)), **times}


def theirs(model: nn.Module, example: Any, outputs: frozenset[str]) -> dict[str, float]:
    """Half of the channels of every group, by Torch-Pruning."""
    import torch_pruning

    whole = copy.deepcopy(model)
    ignored = [module for key, module in model.named_modules() if f"{key}.weight" in outputs]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad():
        pruner = torch_pruning.pruner.BasePruner(
            model,
            example,
            importance=torch_pruning.importance.MagnitudeImportance(p=1),
            pruning_ratio=0.5,
            ignored_layers=ignored,
            forward_fn=None if isinstance(example, Tensor) else lambda network, inputs: network(inputs),
            output_transform=lambda made: [one for one in tensors_in(made) if one.grad_fn is not None],
        )
        pruner.step()
    left = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            # No two values are alike: what the smaller network still has was not cut out.
            parameter.mul_(torch.isin(parameter, left[name]))
        return {"left": parameters(model), "apart": apart(model(example), whole(example))}


def _said(found: Any, whole: int) -> str:
    if isinstance(found, Exception):
        return f"fails ({str(found)[:75]})"
    exact = "exact" if found["apart"] <= EXACT else f"{found['apart']:.0e} apart"
    return f"{found['left']:>8,} left ({found['left'] / whole:.0%}), {exact}"


def _tried(run: Callable[[], dict[str, float]]) -> Any:
    """What it found, or the error; in a process of its own, which is ended where it finds no end."""
    own, other = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(other, run))
    process.start()
    other.close()
    try:
        if not own.poll(MAX_S):
            return TimeoutError(f"no end after {MAX_S} s")
        return own.recv()
    except EOFError:
        return RuntimeError("its process died")
    finally:
        process.kill()
        process.join()


def _send(to: Any, run: Callable[[], dict[str, float]]) -> None:
    try:
        with warnings.catch_warnings(), quietly(), torch.no_grad():
            warnings.simplefilter("ignore")
            found: Any = run()
    except Exception as error:
        found = RuntimeError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    to.send(found)


def line(name: str) -> tuple[str, bool, bool]:
    """A row of the table, whether ours is exact, and whether it leaves at most 1.05 times what an exact one does."""
    model, example = made(name)
    whole = parameters(model)
    weights = frozenset(prunable_weights(model))
    own = _tried(lambda: ours(model, example))
    model, example = made(name)
    with quietly():
        stays = stays_whole(analyze(capture(model, example)), weights)
    outputs = frozenset(weight for weight, why in stays.items() if why == OUTPUT)
    other = _tried(lambda: theirs(model, example, outputs))
    exact = not isinstance(own, Exception) and own["apart"] <= EXACT
    compared = not isinstance(other, Exception) and other["apart"] <= EXACT
    enough = exact and (not compared or own["left"] <= 1.05 * other["left"])
    speed = "" if isinstance(own, Exception) else f"{own['masked']:.2f} -> {own['small']:.2f} ms"
    return f"{name:20s} {whole:>9,} | {_said(own, whole)} | {speed} | {_said(other, whole)}", exact, enough


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    chosen = parser.parse_args().networks
    torch.set_num_threads(1)
    print(f"{'network':20s} {'params':>9s} | prune_search | masked -> cut | torch-pruning", flush=True)
    exact, enough = 0, 0
    for name in chosen:
        with torch.no_grad():
            row, is_exact, is_enough = line(name)
        exact, enough = exact + is_exact, enough + is_enough
        print(row, flush=True)
    print(
        f"exact: {exact} of {len(chosen)}; at most 1.05 x what an exact Torch-Pruning leaves: {enough} of {len(chosen)}"
    )


if __name__ == "__main__":
    main()
