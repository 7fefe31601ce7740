"""Writes and reads the exported folder: data files and a model card, without pickle."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from prune_search.exports.card_costs import size_and_speed
from prune_search.exports.card_loading import OnnxFile, fenced, loading
from prune_search.exports.card_units import human
from prune_search.exports.densities_picture import densities_svg
from prune_search.pruning.mask.receipt import LayerReceipt
from prune_search.recipe import axes, strict_yaml
from prune_search.recipe.blocks import UserCode
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.space import RECIPE_FILE, read_space
from prune_search.storage.files import one_line, open_regular, put_file
from prune_search.storage.json_files import json_bytes
from prune_search.trial.folder import read_folder
from prune_search.trial.result import Result, finite
from prune_search.version import __version__

CARD_FILE, SEEDS_FILE, PICTURE_FILE, FRONT_FILE = "README.md", "seeds.json", "densities.svg", "front.svg"
# In the order of the card; what else was measured follows.
FIRST_METRICS = ("test/accuracy", "test/loss", "val/accuracy", "val/loss")

Metrics = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported network.

    Attributes:
        recipe: the canonical recipe, with its schema number.
        weights: parameters and buffers by name, pruned weights exactly 0; what `load_state_dict` takes.
        masks: parameter name to bool tensor, True where the weight is kept.
        metrics: metrics.json: key, paradigm, sparsity, layers, metrics, rounds, environment …
    """

    recipe: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    metrics: Mapping[str, Any]


def load(folder: str | Path) -> Exported:
    """Read an exported folder, or any folder that ``run --out`` wrote. Nothing in it is run.

    Raises:
        UserError: a file is missing, broken or no regular file; the tensors are not those that metrics.json speaks of;
            or the recipe is wrong.
    """
    folder = Path(folder)
    recipe = _read_recipe(folder / RECIPE_FILE)
    found = read_folder(folder)
    return Exported(recipe.canonical, found.weights, found.masks, found.metrics)


def _read_recipe(path: Path) -> Recipe:
    """The recipe of a folder that may come from anywhere: a link in it is not followed."""
    try:
        with open_regular(path) as file:
            text = file.read(strict_yaml.MAX_BYTES + 1)
        return read_space(strict_yaml.load(text, mapping=True), str(path)).only_recipe()
    except OSError as error:
        raise UserError([Problem("", f"cannot be read: {one_line(error)}", str(path))]) from None
    except UserError as error:
        raise error.of(str(path)) from None


@dataclass(frozen=True)
class CardOf:
    """What a card tells besides the run.

    Attributes:
        search_name: the search that it was found in, or None.
        trial: the trial's name there.
        dense: the metrics of the search's dense network, to be shown beside.
        repeats: task.seed to metrics of the same recipe run with that seed, the exported run not among them.
        costs: of `networks.costs_of`, or None.
        registered: the name of the registered MLflow model, or None.
        onnx: what model.onnx is; None where there is none.
        front: the picture of the search's Pareto front, an SVG; None where there is none.
        run: MLflow's id of the trial's run, or None.
    """

    search_name: str | None = None
    trial: str | None = None
    dense: Metrics | None = None
    repeats: Mapping[int, Metrics] = field(default_factory=dict)
    costs: Mapping[str, Any] | None = None
    registered: str | None = None
    onnx: OnnxFile | None = None
    front: bytes | None = None
    run: str | None = None


def export_folder(result: Result, folder: Path, about: CardOf | None = None) -> None:
    """Add the card to the folder that `trial.folder.write_folder` wrote, and seeds.json where there are repeats.

    Args:
        result: the run that was written there.
        folder: the folder.
        about: what the card tells besides.

    Raises:
        StorageError: it could not be written.
    """
    about = about or CardOf()
    put_file(folder / PICTURE_FILE, densities_svg(result.receipt.layers).encode())
    if about.front is not None:
        put_file(folder / FRONT_FILE, about.front)
    put_file(folder / CARD_FILE, card(result, about).encode())
    if about.repeats:
        runs = {result.recipe.seed: result.metrics, **about.repeats}
        means, deviations = _moments(list(runs.values()))
        content = {
            "seeds": [{"seed": seed, "metrics": finite(metrics)} for seed, metrics in runs.items()],
            "mean": finite(means),
            "deviation": finite(deviations),
        }
        put_file(folder / SEEDS_FILE, json_bytes(content))


def card(result: Result, about: CardOf | None = None) -> str:
    """README.md of an exported folder."""
    about = about or CardOf()
    parts = [
        _hub_block(result),
        title(result, about),
        *([] if about.front is None else [f"![All networks of the search, and its Pareto front]({FRONT_FILE})"]),
        f"![Density of every layer]({PICTURE_FILE})",
        "## Figures\n\n" + _figures(result, about.dense, about.repeats),
        *([] if about.costs is None else ["## Size and speed\n\n" + size_and_speed(about.costs)]),
        "## Load it\n\n" + loading(result, about.costs or {}, about.onnx, about.registered),
        _inputs(result),
        "## Run it again\n\n" + _again(result),
        "## Layers\n\n" + _layers(result),
    ]
    return "\n\n".join(parts) + "\n"


def _hub_block(result: Result) -> str:
    """What model hubs read first: library, tags, data and figures. The license is the owner's to fill in."""
    recipe = result.recipe
    shown = [name for name in _ordered(result.metrics) if name.startswith("test/") and name != "test/loss"]
    figures = [
        {"type": name.partition("/")[2], "name": name, "value": round(result.metrics[name], 6)} for name in shown
    ]
    block: dict[str, Any] = {
        "license": "unknown",
        "library_name": "prune_search",
        "tags": ["pruning", "sparse", result.paradigm],
    }
    if figures:
        data = {"name": recipe.task.data.name, "type": recipe.task.data.name}
        task = {"type": "other", "name": "pruned network"}
        block["metrics"] = [figure["type"] for figure in figures]
        name = f"{recipe.task.model.name}-{result.paradigm}"
        block["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": figures}]}]
    return f"---\n{strict_yaml.dump(block).rstrip()}\n---"


def title(result: Result, about: CardOf) -> str:
    """What a card begins with: which network it is, by which paradigm, from which search."""
    receipt, recipe = result.receipt, result.recipe
    data, model = recipe.task.data.name, recipe.task.model.name
    lines = [
        f"# {result.paradigm}: {model} on {data}, sparsity {receipt.reached:.4f}",
        "",
        f"A pruned network: {_kept(result)} of its {_total(result):,} convolution and linear weights are kept.",
    ]
    entry = axes.PRESETS.get(result.paradigm)
    if entry is not None:
        lines.append(
            f"Paradigm `{entry.name}`: {entry.summary}." + (f" Source: {entry.source}." if entry.source else "")
        )
    if about.search_name is not None:
        named = f", trial `{about.trial}`" if about.trial else ""
        lines.append(f"It was found by the search `{about.search_name}`{named}, on validation data.")
    return "\n".join([*lines, "", f"Key `{result.key}`"])


def _total(result: Result) -> int:
    return sum(layer.total for layer in result.receipt.layers)


def _kept(result: Result) -> str:
    return f"{sum(layer.kept for layer in result.receipt.layers):,}"


# --- figures ------------------------------------------------------------------------------------------------------


def _figures(result: Result, dense: Metrics | None, repeats: Mapping[int, Metrics]) -> str:
    columns = [f"this network (seed {result.recipe.seed})"]
    means, deviations = _moments([result.metrics, *repeats.values()])
    if repeats:
        columns.append(f"mean ± deviation over {len(repeats) + 1} seeds")
    if dense is not None:
        columns.append("dense network of the search")
    rows = []
    for name in _ordered(result.metrics):
        cells = [_figure(name, result.metrics.get(name))]
        if repeats:
            cells.append(_spread(name, means.get(name), deviations.get(name)))
        if dense is not None:
            cells.append(_figure(name, dense.get(name)))
        rows.append([name, *cells])
    notes = "Test data was used for this card only; nothing was ranked by it."
    return _table(["metric", *columns], rows) + "\n\n" + notes


def _ordered(metrics: Metrics) -> list[str]:
    scores = [name for name in metrics if name.startswith(("test/", "val/")) and name not in FIRST_METRICS]
    first = [*FIRST_METRICS, *sorted(scores)]
    return [name for name in first if name in metrics] + sorted(set(metrics) - set(first))


def _figure(name: str, value: float | None) -> str:
    return "–" if value is None else human(name, value)


def _spread(name: str, mean: float | None, deviation: float | None) -> str:
    """Mean ± deviation; of what is the same for every seed, the figure alone."""
    return _figure(name, mean) + (f" ± {_figure(name, deviation)}" if deviation else "")


def _moments(measured: Sequence[Metrics]) -> tuple[dict[str, float], dict[str, float]]:
    values: dict[str, list[float]] = {}
    for metrics in measured:
        for name, value in metrics.items():
            values.setdefault(name, []).append(float(value))
    means = {name: statistics.fmean(found) for name, found in values.items()}
    return means, {name: statistics.stdev(found) for name, found in values.items() if len(found) > 1}


# --- running it again -----------------------------------------------------------------------------------------------


def _inputs(result: Result) -> str:
    data = result.recipe.task.data
    looked_at = result.inputs.get("digest_of")
    covered = f" The recipe's key covers {looked_at} of the data." if looked_at else ""
    if isinstance(data, UserCode):
        return f"Inputs are prepared by your own data set `{data.name}`.{covered}"
    described = "(`prune-search methods` describes it)."
    return f"Inputs as the data set `{data.name}` of prune_search prepares them {described}{covered}"


def reproducing_command(recipe: Recipe) -> str:
    """What is typed in the exported folder to train the network anew, and to compare it with what lies there."""
    task = recipe.task
    named = {"model": task.model, "data": task.data}
    if isinstance(task.model, UserCode) and task.model == task.data:
        named = {"task": task.model}
    own = [f"--{key} {value.name}" for key, value in named.items() if isinstance(value, UserCode)]
    # Own code was found in the folder where the search was launched; here there is none.
    words = [*(["PYTHONPATH=FOLDER_OF_YOUR_CODE"] if own else []), "prune-search run . --verify", *own]
    if not isinstance(task.data, UserCode) and not task.source.embedded:
        words.append("--data-root FOLDER_OF_THE_DATA_SETS")
    return " ".join(words)


def _again(result: Result) -> str:
    environment = ", ".join(f"{key} {value}" for key, value in sorted(result.environment.items()))
    lines = [
        f"With prune-search {__version__}, in this folder:",
        "",
        fenced(reproducing_command(result.recipe), "sh"),
        "",
        "It retrains everything from recipe.yaml and reports exact, mask-equal or different. In one environment class "
        f"it is exact, bit for bit on CPU; this one was: {environment}.",
        "",
        f"- mask sha256 `{result.masks.sha256}`",
        f"- weights sha256 `{result.weights_sha256}`",
    ]
    return "\n".join(lines)


def _layers(result: Result) -> str:
    rows = [
        [f"`{layer.name}`", f"{layer.total:,}", f"{layer.kept:,}", _density(layer)] for layer in result.receipt.layers
    ]
    receipt = result.receipt
    reached = f"Sparsity requested {receipt.asked:.4f}, reached {receipt.reached:.4f}"
    share = receipt.sparsity_of_all_parameters
    reached += "" if share is None else f", of all parameters {share:.4f}"
    total = f"{reached}; layers with no weights left: {receipt.collapsed}."
    total += f"\n\n{receipt.fused[0].upper()}{receipt.fused[1:]}." if receipt.fused else ""
    return _table(["layer", "weights", "kept", "density"], rows) + "\n\n" + total


def _density(layer: LayerReceipt) -> str:
    return f"in `{layer.fused_into}`" if layer.fused_into else f"{layer.kept / layer.total:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
