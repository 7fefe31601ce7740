"""Every axis of a recipe. A new value of one is a function in one file of the packages named here, and nothing else."""

from __future__ import annotations

from prune_search.recipe.registry import Axis

DATASETS = Axis(
    "data set",
    "task.data",
    ("prune_search.tasks.datasets",),
    # train_examples: how many, known before the data are read, so that `validate` can resolve epochs; 0 where unknown.
    {"train_examples": 0, "classes": 0, "shape": (), "embedded": False},
)
MODELS = Axis("model", "task.model", ("prune_search.tasks.models",))
METRICS = Axis(
    "metric",
    "search.objectives",
    ("prune_search.tasks.metrics", "prune_search.compact.metrics"),
    # always: it is taken of every network; else only where a search names it, and of what is exported. simulated: a
    # simulated trial has it too, though it has no network.
    {"best": "maximize", "split": "", "always": True, "simulated": True},
)
INITS = Axis("initializer", "train.init", ("prune_search.training.initializers",), {"draws": True})
# check: from the options to what is wrong with them together, or an empty text.
OPTIMIZERS = Axis("optimizer", "train.optimizer", ("prune_search.training.optimizers",), {"check": None})
SCHEDULES = Axis("learning-rate schedule", "train.schedule", ("prune_search.training.schedules",))
AUGMENTATIONS = Axis("augmentation", "train.augment", ("prune_search.training.augmentations",))
LOSSES = Axis("loss", "mask.score.loss", ("prune_search.training.losses",))
CRITERIA = Axis(
    "criterion",
    "mask.criterion",
    ("prune_search.pruning.mask.criteria",),
    # kind: static, scheduled, sampled or latent. reduce: how the scores of a group's weights become the group's score,
    # or from the options to that. compared: "row" where single weights compete within their output row only.
    # scales: of coupled channels the scales of normalizations on the way are "scored" like weights, "left" out, or the
    # "only" thing that counts, by their size.
    # rough: it has cheaper scores of a known error (`Scoring.rough`). needs_batchnorm: of the network.
    # keeps_all: the mask keeps everything; the sparsity is for the dynamics. oracle: an independent slow definition.
    # steps: from the score block and the options to the updates that its scoring trains, to be counted.
    # granularities: those it goes with, or None for all. sparsity: the forms of sparsity that it takes.
    # trains: it learns the scores of units in steps of its own (made from a `setting.Learning` to a `setting.Phase`).
    # length: from (epoch, **options) to those steps. of_share: from the options to whether the asked share plays a part
    # in them. begin: from (learning, **options): what it does to the weights before, or None.
    {
        "kind": "static",
        "reduce": "sum-abs",
        "scales": "scored",
        "compared": "scope",
        "rough": False,
        "keeps_all": False,
        "needs_data": False,
        "needs_batchnorm": False,
        "trains": False,
        "length": None,
        "of_share": lambda **options: False,
        "begin": None,
        "steps": lambda score, **options: 0,
        "granularities": None,
        "sparsity": ("final", "per_round"),
        "oracle": None,
        "convolutional_default": False,
    },
)
NORMALIZATIONS = Axis("normalization", "mask.score.normalization", ("prune_search.pruning.mask.normalizations",))
PATHS = Axis("sparsity path", "mask.score.path", ("prune_search.pruning.mask.sparsity_paths",))
GRANULARITIES = Axis(
    "granularity",
    "mask.granularity",
    ("prune_search.pruning.mask.granularities",),
    # output_layer: whether the output layer takes part. fixed_sparsity: from the options to the only possible sparsity.
    # structured: a unit can be more than one weight. by_channels: it is made of [outputs, inputs, *kernel], however the
    # layer stores it. removes_outputs: a unit is an output, so that its bias and what normalizes it go with it.
    # coupled: units span the layers that share a channel. run: from the options to the length of a run of units of
    # which a fixed share is kept. fits: from the weight's shape and the options to whether the layer takes part.
    # check: from the options to what is wrong with them together, or an empty text.
    {
        "output_layer": True,
        "fixed_sparsity": None,
        "convolutional_default": False,
        "structured": False,
        "by_channels": False,
        "removes_outputs": False,
        "coupled": False,
        "run": None,
        "fits": lambda shape, **options: True,
        "check": None,
    },
)
SCOPES = Axis(
    "scope",
    "mask.scope",
    ("prune_search.pruning.mask.scopes",),
    # decides: it decides the sparsity itself, always. even: every layer, or run, may get the same share. measured: it
    # asks for the loss and cost of layers. once: it measures the dense network, so that it goes with a single round.
    # densities: from (layers, share, **options) to the layers' kept shares, where they follow from their shapes. check:
    # from the sparsity and the options to what is wrong with them together, or an empty text.
    {
        "granularities": None,
        "sparsity": ("final", "per_round"),
        "decides": False,
        "even": False,
        "measured": False,
        "once": False,
        "densities": None,
        "check": None,
    },
)
CONTROLS = Axis("control", "mask.control", ("prune_search.pruning.mask.controls",), {"with_dynamics": True})
STABILITIES = Axis("stability", "mask.at.stable", ("prune_search.pruning.mask.stabilities",))
TRANSFORMS = Axis(
    "transform",
    "weights.transform",
    ("prune_search.pruning.weights.transforms",),
    # place: "transform" (sees the mask), "prepare" (runs before there is one) or "both". trains: it takes steps.
    # length: from (epoch, penalty, **options) to its iterations, at most. redraws: it needs an initializer that draws.
    {
        "place": "transform",
        "trains": False,
        "length": None,
        "needs_data": False,
        "granularities": None,
        "redraws": False,
    },
)
DYNAMICS = Axis(
    "dynamics",
    "retrain.dynamics",
    ("prune_search.pruning.retrain.dynamics",),
    # starts_from: "all" where it needs a mask that keeps everything, "mask" where it moves a given one.
    # settles: from (total, epoch, **options) to the step from which the mask has the asked sparsity.
    # misplaced: from the same to what is wrong with its places in `total` steps: (option, message) each.
    # check: from the granularity's name and the options to what is wrong with them together, or an empty text.
    # mean_kept: from (final share, total, epoch, **options) to the mean kept share over the steps. full_gradients: from
    # (total, epoch, **options) to the steps in which the gradients of removed weights are needed.
    {
        "kind": "scheduled",
        "starts_from": "mask",
        "granularities": None,
        "scopes": None,
        "settles": lambda total, epoch, **options: 0,
        "misplaced": lambda total, epoch, **options: (),
        "check": None,
        "mean_kept": lambda share, total, epoch, **options: share,
        "full_gradients": lambda total, epoch, **options: 0,
    },
)
SAMPLERS = Axis(
    "sampler",
    "search.sampler",
    ("prune_search.search.samplers",),
    # independent: a proposal does not depend on any result, so that it can be made long before its trial runs.
    {"independent": False},
)
SCHEDULERS = Axis(
    "scheduler",
    "search.scheduler",
    ("prune_search.search.schedulers",),
    # several_objectives: whether it can rank by more than one metric.
    # keeps: from the options to the share of trials that goes on after each of its judgements.
    {"several_objectives": True, "keeps": lambda **options: 1.0},
)
# How accurate a simulated trial is: the surface over recipes that `launch --simulate` searches.
SURFACES = Axis("surface", "launch --surface", ("prune_search.simulation.surfaces",))
# What is drawn of a comparison: from a `report.exhibit.Exhibit` to a figure, or None where there is nothing to be seen.
# place: which comes first.
PICTURES = Axis("picture", "compare --pictures", ("prune_search.report.pictures",), {"place": 100})
PRESETS = Axis("preset", "preset", ("prune_search.pruning.presets",))

AXES: tuple[Axis, ...] = (
    DATASETS,
    MODELS,
    METRICS,
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
