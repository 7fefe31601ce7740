"""Every axis of a recipe. To add a value, add a function in one file of the packages named here."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prune_search.recipe import facts
from prune_search.recipe.registry import AnyAxis, Axis, Call

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn, optim

# What a learning-rate schedule makes: the rate at a step. What a criterion makes: a score per weight, by the weight's
# name; a control makes masks in the same form.
Rate = Callable[[int], float]
Scores = dict[str, "Tensor"]


DATASETS: Axis[facts.DataSource, object] = Axis(
    facts.DataSource, "data set", "task.data", ("prune_search.tasks.datasets",), call=Call(("root",))
)
MODELS: Axis[facts.Model, nn.Module] = Axis(
    facts.Model,
    "model",
    "task.model",
    ("prune_search.tasks.models",),
    call=Call(("shape", "classes"), declared={"rooted": "root"}),
)
METRICS: Axis[facts.Metric, float] = Axis(
    facts.Metric,
    "metric",
    "search.objectives",
    ("prune_search.tasks.metrics", "prune_search.tasks.calibration", "prune_search.compact.metrics"),
    call=Call(("measured",)),
)
# From the kind of targets and the number of classes (0: there are none) to what sums a metric up over batches.
TASK_METRICS: Axis[facts.TaskMetric, object] = Axis(
    facts.TaskMetric, "task metric", "Task.metrics", ("prune_search.tasks.measures",), call=Call(("target", "classes"))
)
INITS: Axis[facts.Initializer, object] = Axis(
    facts.Initializer,
    "initializer",
    "train.init",
    ("prune_search.training.initializers",),
    call=Call(("model", "seed"), named=("stream",), declared={"measures": "inputs"}),
)
OPTIMIZERS: Axis[facts.OptimizerFacts, optim.Optimizer] = Axis(
    facts.OptimizerFacts,
    "optimizer",
    "train.optimizer",
    ("prune_search.training.optimizers",),
    call=Call(("parameters", "rate"), declared={"samples": "posterior"}, apart=("lr",)),
)
SCHEDULES: Axis[facts.Facts, Rate] = Axis(
    facts.Facts,
    "learning-rate schedule",
    "train.schedule",
    ("prune_search.training.schedules",),
    call=Call(("base", "total", "epoch")),
)
AUGMENTATIONS: Axis[facts.Augmentation, Tensor] = Axis(
    facts.Augmentation,
    "augmentation",
    "train.augment",
    ("prune_search.training.augmentations",),
    call=Call(("inputs", "generator")),
)
LOSSES: Axis[facts.Loss, Tensor] = Axis(
    facts.Loss,
    "loss",
    "mask.score.loss",
    ("prune_search.training.losses",),
    call=Call(("outputs", "labels"), declared={"taught": "lesson"}),
)
CRITERIA: Axis[facts.Criterion, Scores] = Axis(
    facts.Criterion, "criterion", "mask.criterion", ("prune_search.pruning.mask.criteria",), call=Call(("scoring",))
)
NORMALIZATIONS: Axis[facts.Facts, Tensor] = Axis(
    facts.Facts,
    "normalization",
    "mask.score.normalization",
    ("prune_search.pruning.mask.normalizations",),
    call=Call(("scores",)),
)
PATHS: Axis[facts.Facts, Decimal] = Axis(
    facts.Facts,
    "sparsity path",
    "mask.score.path",
    ("prune_search.pruning.mask.sparsity_paths",),
    call=Call(("keep", "t")),
)
GRANULARITIES: Axis[facts.Granularity, Tensor] = Axis(
    facts.Granularity,
    "granularity",
    "mask.granularity",
    ("prune_search.pruning.mask.granularities",),
    call=Call(("tensor",)),
)
SCOPES: Axis[facts.Scope, object] = Axis(
    facts.Scope,
    "scope",
    "mask.scope",
    ("prune_search.pruning.mask.scopes", "prune_search.search.scopes"),
    call=Call(
        ("layers", "share", "rounding"), declared={"measured": "measuring", "searches": "found"}, apart=("exclude",)
    ),
)
CONTROLS: Axis[facts.Control, Scores] = Axis(
    facts.Control, "control", "mask.control", ("prune_search.pruning.mask.controls",), call=Call(("chosen",))
)
STABILITIES: Axis[facts.Facts, float] = Axis(
    facts.Facts,
    "stability",
    "mask.at.stable",
    ("prune_search.pruning.mask.stabilities",),
    call=Call(("before", "after")),
)
TRANSFORMS: Axis[facts.Transform, object] = Axis(
    facts.Transform,
    "transform",
    "weights.transform",
    ("prune_search.pruning.weights.transforms",),
    call=Call(("context",)),
)
DYNAMICS: Axis[facts.DynamicsFacts, object] = Axis(
    facts.DynamicsFacts,
    "dynamics",
    "retrain.dynamics",
    ("prune_search.pruning.retrain.dynamics",),
    call=Call(("context",)),
)
SAMPLERS: Axis[facts.Sampler, object] = Axis(
    facts.Sampler, "sampler", "search.sampler", ("prune_search.search.samplers",), call=Call(("seed",))
)
SCHEDULERS: Axis[facts.Scheduler, object] = Axis(
    facts.Scheduler, "scheduler", "search.scheduler", ("prune_search.search.schedulers",), call=Call(("epoch",))
)
# How accurate a simulated trial is: the surface over recipes that `launch --simulate` searches.
SURFACES: Axis[facts.Facts, object] = Axis(
    facts.Facts, "surface", "launch --surface", ("prune_search.simulation.surfaces",), call=Call()
)
# What is drawn of a comparison: from its figure data to a figure, or None where there is nothing to be seen.
PICTURES: Axis[facts.Picture, Figure | None] = Axis(
    facts.Picture, "picture", "compare --pictures", ("prune_search.report.pictures",), call=Call(("figure_data",))
)
PRESETS: Axis[facts.Preset, dict[str, Any]] = Axis(
    facts.Preset, "preset", "preset", ("prune_search.pruning.presets",), call=Call()
)

AXES: tuple[AnyAxis, ...] = (
    DATASETS,
    MODELS,
    METRICS,
    TASK_METRICS,
    INITS,
    OPTIMIZERS,
    SCHEDULES,
    AUGMENTATIONS,
    LOSSES,
    CRITERIA,
    NORMALIZATIONS,
    PATHS,
    GRANULARITIES,
    SCOPES,
    CONTROLS,
    STABILITIES,
    TRANSFORMS,
    DYNAMICS,
    SAMPLERS,
    SCHEDULERS,
    SURFACES,
    PICTURES,
    PRESETS,
)
