"""Prepares a trial: the recipe, the data on their device, the network at w(0), and their digests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.layer_measurements import layer_costs
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.recipe import axes
from prune_search.recipe.blocks import Mask
from prune_search.recipe.clock import Timeline, resolve
from prune_search.recipe.metric_names import wrong_metric
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.recipe import Named, Recipe, digest_of
from prune_search.recipe.sharding import sharding_problems
from prune_search.recipe.space import recipe_epoch
from prune_search.recipe.training_options import DENSE
from prune_search.tasks.blocks import repeated_modules
from prune_search.tasks.data import ALL_BYTES, DataSet
from prune_search.tasks.layers import prunable_weights
from prune_search.tasks.network import output_layer
from prune_search.tasks.shards import is_shard, resharded, shard_network
from prune_search.tasks.task_data import TaskData
from prune_search.tasks.training_check import check_training
from prune_search.tasks.workers import ALONE, Workers
from prune_search.training.accumulation import accumulating
from prune_search.training.batchnorm_penalty import batchnorm_penalty
from prune_search.training.environment import autocast, environment_class
from prune_search.training.initialized import Initialized
from prune_search.training.loop import Feed, Hook, Network, augmentation
from prune_search.training.optimizers import FROM_PRIOR
from prune_search.training.parameter_groups import Group, with_strengths
from prune_search.training.segment import model_tensors
from prune_search.training.sghmc import Posterior
from prune_search.training.sharded_states import ShardedStates
from prune_search.trial.before_sharding import BeforeSharding
from prune_search.trial.data_and_network import Code, NetworkFactory, TrialData, read_data
from prune_search.trial.split_start import split_start
from prune_search.trial.started_network import start_divided, start_whole
from prune_search.trial.teachers import GivenTeacher, read_teacher

_log = logging.getLogger("prune_search")
# Examples that an augmentation is tried on.
AUGMENTED = 2
# What a recipe scores that does not say it.
DEFAULT_LOSS = "cross-entropy"


@dataclass
class TrialSetup:
    """A recipe with its data and its network. Build one with `prepare`.

    Attributes:
        recipe: what is run.
        data: on the device.
        network: its model is at w(0), or at w(K) with ``train.from``; a trial trains it in place.
        start: w(0) (or w(K)) with its buffers, as named tensors.
        timeline: the recipe's places in iterations.
        digests: of the network and the data, for the key.
        environment: the environment class.
        forward: digest of the forward code.
        given_teacher: the teacher of retrainings, where it comes from a folder.
        initialized: what the initializer found; None of one that finds nothing.
        workers: that run the trial together.
        sharded: what was found out of the network before it was divided among the workers; None where it is whole.
        weights: the prunable weights of the network at w(0), by name: for their names, order and shapes.
    """

    recipe: Recipe
    data: TrialData
    network: Network
    start: Mapping[str, Tensor]
    timeline: Timeline
    digests: Mapping[str, str]
    environment: Mapping[str, Any]
    forward: str
    given_teacher: GivenTeacher | None = None
    initialized: Initialized | None = None
    workers: Workers = ALONE
    sharded: BeforeSharding | None = None
    _feeds: dict[tuple[str | int, ...], Feed] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Before anything is fused: layers that are gone later have their masks all the same.
        self.weights = {name: weight.detach() for name, weight in prunable_weights(self.network.model).items()}

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @cached_property
    def key(self) -> str:
        """The recipe's content address."""
        return self.recipe.key(self.digests)

    @cached_property
    def mask(self) -> Mask:
        """The mask block; what is scored is the task's own loss where the recipe names no other."""
        mask = self.recipe.mask if self.sharded is None else replace(self.recipe.mask, scope=self.sharded.scope)
        named = mask.score.loss
        if isinstance(self.data, DataSet) or not isinstance(named, Named) or named.written != DEFAULT_LOSS:
            return mask
        return replace(mask, score=replace(mask.score, loss=_loss_of(self.data)))

    @cached_property
    def teacher(self) -> nn.Module | None:
        """The teacher that comes from a folder, on the network's device; None without one."""
        return None if self.given_teacher is None else self.given_teacher.model.to(self.network.device)

    @cached_property
    def output_layer(self) -> str | None:
        """The name of the output layer's weight."""
        if self.sharded is not None:
            return self.sharded.output_layer
        return output_layer(self.model, self.data.train.first(1))

    @cached_property
    def flops(self) -> dict[str, float]:
        """By weight, the operations of a forward pass for one example, see `layer_measurements.layer_costs`."""
        if self.sharded is not None:
            return dict(self.sharded.flops)
        return layer_costs(self.model, self.data.train.first(1), "flops")

    @cached_property
    def shards(self) -> ShardedStates | None:
        """What stores states of a sharded network; None where it is whole."""
        return None if self.sharded is None else ShardedStates.of(self.model, self.workers)

    def feed(self, *words: str | int) -> Feed:
        """The data stream of a place; no words: the training clock's. Of one at a time, examples are read ahead."""
        if words not in self._feeds:
            self.close()
            augment = augmentation(self.recipe.train.augment)
            batch, seed = self.recipe.train.batch, self.recipe.seed
            self._feeds[words] = Feed(self.data.train, batch, seed, words, augment, ahead=True)
        return self._feeds[words]

    def close(self) -> None:
        """End the processes that read examples ahead; whoever needs them starts them anew."""
        for feed in self._feeds.values():
            feed.close()

    @property
    def waited_s(self) -> float:
        """Seconds for which training steps have waited for data that is read while it goes on."""
        return sum(feed.waited_s for feed in self._feeds.values())

    @property
    def inputs(self) -> dict[str, Any]:
        """What a network is built again with, and what the data's digest has looked at where that is not all."""
        data = self.data
        about = {"shape": list(data.shape), "classes": data.classes, "integers": data.of_integers}
        return about if data.looked_at == ALL_BYTES else {**about, "digest_of": data.looked_at}

    def scores(self, split: str, model: nn.Module) -> dict[str, float]:
        """The loss and the metrics of a network on a split: ``validation`` or ``test``.

        Raises:
            UserError: the data have no such split.
        """
        examples = self.data.split(split)
        if examples is None:
            raise UserError([Problem("task.data", f"has no {split} split")])
        batch, workers = self.recipe.train.batch, self.workers
        found = self.data.scores(model, examples, batch, self.network.autocast, workers)  # type: ignore[arg-type]
        resharded(model)
        # What is decided by them is decided alike.
        return workers.agreed(lambda: found)

    def alike(self, masks: MaskSet) -> MaskSet:
        """A mask that every worker has found for itself.

        Raises:
            WorkersDifferError: one of them has found another.
        """
        if self.workers.several:
            self.workers.alike(masks.sha256, "mask")
        return masks

    def optimizer(
        self,
        named: Named,
        parameters: Iterable[nn.Parameter] | Iterable[Group] = (),
        words: tuple[str | int, ...] = (),
    ) -> torch.optim.Optimizer:
        """A fresh optimizer over parameters or groups of them (none given: the network's), its buffers at zero.

        Args:
            named: the optimizer.
            parameters: or groups of them.
            words: the place of the training, for what the optimizer draws.
        """
        options, entry = dict(named.options), named.entry(axes.OPTIMIZERS)
        rate = options.pop("lr")
        trained: Any = list(parameters) or list(self.model.parameters())
        if options.get("weight_decay") == FROM_PRIOR:
            options["weight_decay"] = 0.0
            trained = with_strengths(trained, self._prior_strengths())
        if entry.facts.samples:
            options["posterior"] = Posterior(self._examples(), self.recipe.seed, words)
        made: torch.optim.Optimizer = entry.make(trained, rate, **options)
        return made

    def _prior_strengths(self) -> dict[nn.Parameter, float]:
        """1 / (prior variance · N) of each parameter of the network that has a prior."""
        variances = {} if self.initialized is None else self.initialized.variances
        examples = self._examples()
        return {self.model.get_parameter(name): 1 / (variance * examples) for name, variance in variances.items()}

    def _examples(self) -> int:
        """N, the training examples, which a posterior is made of.

        Raises:
            UserError: a stream does not say how many it has.
        """
        if count := len(self.data.train):
            return count
        text = "a posterior needs the number of training examples, which this stream does not state"
        raise UserError([Problem("train.optimizer", text)])

    def penalties(self) -> list[Hook]:
        """What every training of the network's weights adds to their gradients, as hooks that come first."""
        strength = self.recipe.train.batchnorm_l1
        return [batchnorm_penalty(self.model, strength)] if strength else []

    def root(self) -> str:
        """The content address of trajectory 1 (design: data, w(0), forward code and how it is trained)."""
        written = self.recipe.train.written
        train = {key: value for key, value in written.items() if key not in ("init", "from", "steps", "threads")}
        return digest_of(
            {
                "kind": "train",
                "network": self.digests["network"],
                "forward": self.forward,
                "data": self.digests["data"],
                "train": train,
                "given": self.recipe.train.start is not None,
                "steps": self.timeline.total,
                "seed": self.recipe.seed,
                "environment": dict(self.environment),
            }
        )


def _loss_of(data: TrialData) -> Callable[[Any, Any], Tensor]:
    if data.loss is None:
        raise UserError([Problem("task", "no loss goes with it")])
    return data.loss


def _check_stopping(recipe: Recipe, data: TrialData) -> None:
    """Refuse to stop early by what this task does not measure."""
    retrain = recipe.retrain_options if recipe.retrain is not None else None
    for role, options in (("train", recipe.train.options), ("retrain", retrain)):
        stopping = None if options is None else options.early_stopping
        if stopping is not None and (text := wrong_metric(stopping.metric, [*data.metrics, "loss"])):
            raise UserError([Problem(f"{role}.early_stopping.metric", text)])


def _check_augmentation(recipe: Recipe, data: TrialData) -> None:
    """Refuse to augment what an augmentation does not take: it is tried on a few examples."""
    named = recipe.train.augment
    augment = augmentation(named)
    if augment is None:
        return
    inputs = data.train.first(AUGMENTED)
    if not isinstance(inputs, Tensor):
        text = f"{named.name} takes one tensor, and the network of this task gets others: augment in its Dataset"
        raise UserError([Problem("train.augment", text)])
    augment(inputs, torch.Generator().manual_seed(0))


def prepare(
    recipe: Recipe,
    device: torch.device,
    data_root: Path | None = None,
    code: Code | None = None,
    folder: Path | None = None,
    data: TrialData | None = None,
    workers: Workers = ALONE,
    declared: int | str | None = None,
    sharded: bool = False,
) -> TrialSetup:
    """Read the data, build the network at w(0) and place the recipe's steps.

    Args:
        recipe: what is to be run.
        device: where.
        data_root: folder of the data sets' files.
        code: the user's own code that may run.
        folder: of the recipe file, which ``train.from`` can be relative to.
        data: the recipe's data set where it was read before.
        workers: that run it together.
        declared: how many the search asks for, where that is a range.
        sharded: whether they divide the network among themselves. Each draws one layer at a time and keeps its rows of
            it, where the network can be started so (see `split_start`); else all of it, in its host memory.

    Raises:
        UserError: with everything that does not fit, before anything is trained.
    """
    code = code or Code()
    if sharded and (problems := sharding_problems(recipe)):
        raise UserError(problems)
    data = data or read_data(recipe, data_root, code)
    timeline = resolve(recipe, recipe_epoch(recipe, len(data.train)))
    factory = NetworkFactory(recipe, code, data_root, data)
    divided = sharded and workers.several
    split = split_start(recipe, factory, data, folder, workers) if divided else None
    if split is None:
        started = start_whole(recipe, factory, data, folder)
    else:
        started = start_divided(recipe, split, device, folder, workers)
    digests = {"network": started.digest, "data": data.digest}
    if started.source:
        digests["source"] = started.source
    model, data, before = started.model, started.data, started.before
    if isinstance(data, TaskData) and (recipe.train.start is None or recipe.retrain is not None):
        check_training(data, model, recipe.train.batch)
    _check_augmentation(recipe, data)
    _check_stopping(recipe, data)
    threads, precision = recipe.train.threads, recipe.train.precision
    if divided and before is None:
        before = BeforeSharding.of(model, recipe, data)
        # The same bits on processors of different kinds, while all of them are there.
        workers.same(list(model.state_dict().values()))
        shard_network(model, repeated_modules(model), device)
    # What a pass to try the network has gathered.
    resharded(model)
    model = model.to(device)
    if device.type == "cuda" and before is None:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = Network(model, device, autocast(device, precision), _loss_of(data))
    network = _training_network(network, recipe, workers)
    environment = environment_class(device, precision, threads, declared or workers.size, sharded)
    taught = recipe.retrain_options.teacher
    teacher = None
    if taught is not None and taught != DENSE:
        teacher = read_teacher(taught, folder, factory.finished)
        digests["teacher"] = teacher.digest
    data = data.to(device)
    # The same bits, and the same addresses, on processors of different kinds.
    workers.same([one for one in model.state_dict().values() if not is_shard(one)])
    told = digests, environment, started.forward, started.initialized
    digests, environment, forward, initialized = workers.agreed(lambda: told)
    start = model_tensors(model)
    return TrialSetup(
        recipe, data, network, start, timeline, digests, environment, forward, teacher, initialized, workers, before
    )


def _training_network(network: Network, recipe: Recipe, workers: Workers) -> Network:
    """The network with several batches per step, several workers that pass over each, or less memory for one."""
    if workers.several:
        from prune_search.training.data_parallel import DataParallel

        network = replace(network, gradients=DataParallel(workers, recipe.train.accumulate).gradients)
    else:
        network = accumulating(network, recipe.train.accumulate)
    forgetting = recipe.train.activation_checkpointing
    if forgetting:
        from prune_search.training.checkpointing import checkpointed

        if not repeated_modules(network.model):
            text = "this network has no list of blocks of one class, whose activations could be recomputed"
            raise UserError([Problem("train.activation_checkpointing", text)])
        network = replace(network, gradients=checkpointed(network.gradients))
    if recipe.train.compile:
        from prune_search.training.compiled import compiled

        # The outer one comes first: what is computed again is compiled code.
        network = replace(network, gradients=compiled(network.gradients, by_blocks=forgetting))
    return network
