"""A plug-in with one small entry on every axis, and a verb: what a newcomer copies from.

A plug-in is a module. Name it in ``PRUNE_SEARCH_PLUGINS``, or let its distribution name it in the entry-point group
``prune_search``. Within this package each entry stands in a file of the folder that the comment above it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from prune_search.cli.verbs import VERBS, Verb
from prune_search.recipe import axes
from prune_search.recipe.facts import Criterion, DataSource, Metric, Scope, TaskMetric
from prune_search.recipe.fields import Number
from prune_search.recipe.registry import Option

# Types cost nothing here, and torch is imported when a function needs it: `prune-search --help` imports this module.
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    import torch
    from matplotlib.figure import Figure
    from optuna.samplers import BaseSampler
    from torch import Tensor, nn

    from prune_search.pruning.mask.controls import Chosen
    from prune_search.pruning.mask.mask_set import Pool
    from prune_search.pruning.mask.scoring import Scoring
    from prune_search.pruning.mask.units import LayerUnits
    from prune_search.pruning.retrain.context import DynamicsContext
    from prune_search.pruning.weights.context import TransformContext
    from prune_search.recipe.recipe import Recipe
    from prune_search.report.figure_data import FigureData
    from prune_search.search.schedulers import Never
    from prune_search.simulation.surface import Outlook, SurfacePoint
    from prune_search.tasks.data import DataSet
    from prune_search.tasks.metrics import Measured
    from prune_search.tasks.tallies import Seen
    from prune_search.training.loop import Hook
else:
    from prune_search.lazy import torch


# tasks/datasets/
@axes.DATASETS.register("my-stripes", facts=DataSource(train_examples=128, classes=2, shape=(16,)))
def stripes(root: object) -> DataSet:
    """Two classes of 16 numbers, by the sign of the first half's sum."""
    from prune_search.tasks.data import DataSet, Split

    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(192, 16, generator=draw)
    labels = (inputs[:, :8].sum(dim=1) > 0).long()
    train, validation, test = (Split(inputs[part], labels[part]) for part in torch.arange(192).tensor_split((128, 160)))
    return DataSet("my-stripes", train, validation, test, 2)


# tasks/models/
@axes.MODELS.register("my-net")
def net(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two linear layers, 8 units between them."""
    return torch.nn.Sequential(torch.nn.Linear(shape[0], 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))


# tasks/metrics.py
@axes.METRICS.register("my-error", facts=Metric(best="minimize", split="validation", simulated=False))
def error(measured: Measured) -> float:
    """Share of the validation examples that are classified wrongly, 0…1."""
    return 1 - measured.scores["validation"]["accuracy"]


# tasks/measures/
@axes.TASK_METRICS.register("my-largest-error", facts=TaskMetric(best="minimize"))
@dataclass
class LargestError:
    """The largest distance of a number from its target."""

    target: str
    classes: int
    largest: float = 0.0

    def update(self, seen: Seen) -> None:
        """Take a batch into account."""
        self.largest = max(self.largest, float((seen.scores - seen.target).abs().max()))

    def value(self) -> float:
        """Of all batches."""
        return self.largest


# training/initializers.py
@axes.INITS.register("my-start")
def start(model: nn.Module, seed: int, stream: str = "init") -> None:
    """Uniform weights in ±0.3, biases 0."""
    from prune_search.training.randomness import generator

    draw = generator(seed, stream)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.rand(parameter.shape, generator=draw).sub(0.5).mul(0.6)
            parameter.copy_(drawn if parameter.dim() > 1 else torch.zeros_like(drawn))


# training/optimizers.py
@axes.OPTIMIZERS.register("my-steps", options={"lr": Option(Number(0.0, above=True), 0.1, "learning rate")})
def steps(parameters: Any, rate: float) -> torch.optim.Optimizer:
    """Plain gradient descent."""
    return torch.optim.SGD(parameters, lr=rate)


# training/schedules.py
@axes.SCHEDULES.register("my-fall")
def fall(base: float, total: int, epoch: int) -> Callable[[int], float]:
    """From the base rate linearly to 0."""
    return lambda step: base * max(0.0, 1 - step / total)


# training/augmentations.py
@axes.AUGMENTATIONS.register("my-noise")
def noise(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise of deviation 0.01."""
    return inputs + 0.01 * torch.randn(inputs.shape, generator=generator)


# training/losses.py
@axes.LOSSES.register("my-squares")
def squares(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance from the one-hot label."""
    return (outputs - torch.nn.functional.one_hot(labels, outputs.shape[1])).square().mean()


# pruning/mask/criteria/
@axes.CRITERIA.register(
    "my-distance",
    options={"centre": Option(Number(-1.0, 1.0), 0.25, "what the weights are compared with")},
    facts=Criterion(reduce="sum"),
)
def distance(scoring: Scoring, *, centre: float) -> dict[str, Tensor]:
    """The distance of each weight from a number."""
    return {name: (weight - centre).abs() for name, weight in scoring.dense.items()}


# pruning/mask/normalizations.py
@axes.NORMALIZATIONS.register("my-ranks")
def ranks(scores: Tensor) -> Tensor:
    """The rank of each score in its layer, 0…1."""
    return scores.argsort().argsort() / max(1, scores.numel() - 1)


# pruning/mask/sparsity_paths.py
@axes.PATHS.register("my-root")
def root(keep: Decimal, t: Decimal) -> Decimal:
    """The kept share falls with the square of the place on the path."""
    return 1 - t * t * (1 - keep)


# pruning/mask/granularities/
@axes.GRANULARITIES.register("my-pairs")
def pairs(tensor: Tensor) -> Tensor:
    """Two neighbouring weights are one unit."""
    return tensor.reshape(-1, 2)


# pruning/mask/scopes/
@axes.SCOPES.register("my-layers", facts=Scope(even=True))
def layers(layers: list[LayerUnits], share: Decimal, rounding: str) -> list[Pool]:
    """Each layer for itself, one unit at least."""
    from prune_search.pruning.mask.counts import keep_count
    from prune_search.pruning.mask.mask_set import Pool

    return [Pool((layer.name,), max(1, keep_count(layer.units, share, rounding))) for layer in layers]


# pruning/mask/controls.py
@axes.CONTROLS.register("my-flip")
def flip(chosen: Chosen) -> dict[str, Tensor]:
    """Each layer's mask read backwards."""
    return {name: kept.flip(0) for name, kept in chosen.kept.items()}


# pruning/mask/stabilities/
@axes.STABILITIES.register("my-change")
def change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """1 where any unit of the mask differs, else 0."""
    return float(any(not torch.equal(mask, before[name]) for name, mask in after.items()))


# pruning/weights/transforms/
@axes.TRANSFORMS.register("my-half")
def half(context: TransformContext) -> None:
    """Half of every weight."""
    with torch.no_grad():
        for weight in context.network.model.parameters():
            weight.mul_(0.5)


# pruning/retrain/dynamics/
@axes.DYNAMICS.register("my-rest")
def rest(context: DynamicsContext) -> Hook:
    """The mask stays as it is."""
    from prune_search.training.loop import Hook

    return Hook("my-rest")


# search/samplers.py
@axes.SAMPLERS.register("my-draws")
def draws(seed: int) -> BaseSampler:
    """Uniform draws of every hole."""
    import optuna

    return optuna.samplers.RandomSampler(seed=seed)


# search/schedulers.py
@axes.SCHEDULERS.register("my-patience")
def patience(epoch: int) -> Never:
    """Nothing is stopped."""
    from prune_search.search.schedulers import Never

    return Never()


# simulation/surfaces/
@axes.SURFACES.register("my-slope")
@dataclass(frozen=True)
class Slope:
    """Accuracy falls with the sparsity, in a straight line."""

    failing: float = 0.0
    dying: float = 0.0
    content: str = ""

    def check(self, recipe: Recipe) -> None:
        """Every recipe is known."""

    def outlook(self, point: SurfacePoint) -> Outlook:
        """Half the density, and a half."""
        from prune_search.simulation.surface import Outlook

        accuracy = 0.5 + point.density / 2
        return Outlook(truth=accuracy, accuracy=accuracy, start=0.5, half=0.2, deviation=0.0)


# report/pictures/
@axes.PICTURES.register("my-dots")
def dots(figure_data: FigureData) -> Figure | None:
    """Accuracy of every recipe, in the order of the leaderboard."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([row["metrics"]["val/accuracy"] for row in figure_data.rows], "o")
    return figure


# pruning/presets/
@axes.PRESETS.register("my-paper")
def paper() -> dict[str, Any]:
    """One-shot pruning of my own, every choice of it."""
    return {
        "task": {"data": "my-stripes", "model": "my-net"},
        "train": {
            "steps": "4ep",
            "batch": 32,
            "init": "my-start",
            "optimizer": "my-steps",
            "schedule": "my-fall",
            "augment": "my-noise",
        },
        "mask": {
            "at": {"stable": "my-change", "below": 0.5, "window": "1ep", "latest": "50%"},
            "criterion": {"name": "my-distance", "centre": 0.1},
            "score": {"iterations": 2, "path": "my-root", "loss": "my-squares", "normalization": "my-ranks"},
            "granularity": "my-pairs",
            "scope": "my-layers",
            "sparsity": 0.5,
            "control": "my-flip",
        },
        "weights": {"at": "mask", "transform": ["my-half"]},
        "retrain": {"steps": "1ep", "dynamics": "my-rest"},
    }


# cli/, and the name of the file in cli/verbs.py
@VERBS.register("greet", facts=Verb(epilog="Example:  prune-search greet Ada"))
def greet(name: str) -> None:
    """Say hello."""
    typer.echo(f"hello, {name}")
