"""Prints a finished run in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from prune_search.cli.exits import as_called
from prune_search.pruning.mask.receipt import budget_told, search_told
from prune_search.recipe.metric_names import lead
from prune_search.report.labels import figure

if TYPE_CHECKING:
    from prune_search.pruning.mask.receipt import Receipt
    from prune_search.trial.result import Result

MAX_LAYERS = 30
MAX_LEFT_OUT = 3
TRAINING = "train/"
# Told on lines of their own.
WITHOUT_DATA = (TRAINING, "sparsity/")


def show_result(result: Result, out: Path | None) -> None:
    """Print a run: rounds, layers, totals, and the command to run next."""
    console = Console(highlight=False)
    if len(result.rounds) > 1:
        console.print(_rounds(result))
    console.print(_layers(result))
    receipt = result.receipt
    console.print(f"[bold]{result.paradigm}[/bold]  key {result.key[:16]}")
    console.print(
        f"sparsity  requested {receipt.asked:.4f}  reached {receipt.reached:.4f}  collapsed layers {receipt.collapsed}"
    )
    if (line := _of_all_parameters(receipt)) is not None:
        console.print(line, soft_wrap=True)
    if receipt.search:
        console.print(f"search    {search_told(receipt.search)}", soft_wrap=True)
    if receipt.budget is not None:
        console.print(f"budget    {budget_told(receipt.budget)}", soft_wrap=True)
    if receipt.blocks:
        console.print(
            f"blocks    {receipt.blocks}, each pruned on the outputs of the pruned blocks before it", highlight=False
        )
    if receipt.fused:
        console.print(receipt.fused)
    if receipt.collapsed:
        console.print(f"[bold]{receipt.collapsed} layers have no weights left[/bold]: no signal passes through them")
    scores = {
        name: value for name, value in result.metrics.items() if "/" in name and not name.startswith(WITHOUT_DATA)
    }
    console.print("metrics   " + "  ".join(f"{name} {figure(value)}" for name, value in scores.items()), soft_wrap=True)
    if line := _operations(result.metrics):
        console.print(f"training  {line}", soft_wrap=True)
    if line := _initializer(result.initializer):
        console.print(f"prior     {line}", soft_wrap=True)
    waited = f"  (steps waited {result.waited_s:.1f} s for data)" if result.waited_s else ""
    console.print(f"steps     trained {result.steps[0]}  reused {result.steps[1]}  in {result.seconds:.1f} s{waited}")
    if looked_at := result.inputs.get("digest_of"):
        console.print(f"data      the key covers {looked_at}", soft_wrap=True)
    console.print(f"mask      {result.masks.sha256}")
    console.print(f"weights   {result.weights_sha256}")
    if out is not None:
        console.print(f"written   {out}", soft_wrap=True)
        console.print(as_called(f"next      prune-search run {out} --verify"), soft_wrap=True)


def _initializer(found: Mapping[str, Any]) -> str:
    """What the initializer found: the distance to a Gaussian process, and each parameter's σ."""
    if "prior" not in found:
        return ""
    prior = list(found["prior"].items())
    shown = "  ".join(f"{name} {figure(one['sigma'])}" for name, one in prior[:MAX_LAYERS])
    more = f"  and {len(prior) - MAX_LAYERS} more: --json" if len(prior) > MAX_LAYERS else ""
    start, end = figure(found["distance_start"]), figure(found["distance_end"])
    return f"distance to the Gaussian process {start} → {end}  σ {shown}{more}"


def _of_all_parameters(receipt: Receipt) -> str | None:
    """The share of all parameters that is gone, and what takes no part; None where it is not known."""
    share = receipt.sparsity_of_all_parameters
    if share is None:
        return None
    shown = ", ".join(f"{one.name} ({one.size:,}: {one.reason})" for one in receipt.left_out[:MAX_LEFT_OUT])
    more = len(receipt.left_out) - MAX_LEFT_OUT
    others = f"  left whole {shown}" + (f" and {more} more: --json" if more > 0 else "") if shown else ""
    return f"of all parameters {share:.4f} are removed{others}"


def _operations(metrics: Mapping[str, float]) -> str:
    """The FLOPs of training on one line: dense, and without the pruned weights."""
    found = []
    for kind in ("dense", "sparse"):
        forward, backward = (metrics.get(f"{TRAINING}{way}_flops_{kind}") for way in ("forward", "backward"))
        if forward is not None and backward is not None:
            found.append(f"{kind} {figure(forward)} forward {figure(backward)} backward")
    return "FLOPs " + ",  ".join(found) if found else ""


def _rounds(result: Result) -> Table:
    shown = lead(result.rounds[-1].metrics) if result.rounds else "val/accuracy"
    table = Table("round", "sparsity", *dict.fromkeys((shown, "val/loss")), "steps", title="rounds")
    for item in result.rounds:
        metrics = item.metrics
        table.add_row(
            str(item.number),
            f"{item.receipt.reached:.4f}",
            *(f"{metrics[name]:.4f}" for name in dict.fromkeys((shown, "val/loss"))),
            f"{metrics['steps_trained']:.0f}",
        )
    return table


def _layers(result: Result) -> Table:
    table = Table("layer", "weights", "kept", "density", title="receipt")
    layers = result.receipt.layers
    for layer in layers[:MAX_LAYERS]:
        density = f"in {layer.fused_into}" if layer.fused_into else f"{layer.kept / layer.total:.4f}"
        table.add_row(layer.name, f"{layer.total:,}", f"{layer.kept:,}", density)
    if len(layers) > MAX_LAYERS:
        table.add_row(f"… {len(layers) - MAX_LAYERS} more: --json", "", "", "")
    return table
