"""Runs one recipe: every round of w(k) → f1 → f2 → f3, with its metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import torch
from torch import Tensor

from prune_search.pruning.mask.block_order import goes_by_blocks
from prune_search.pruning.mask.finder import units_and_others
from prune_search.pruning.mask.mask_set import MaskSet, ScoreError
from prune_search.pruning.mask.receipt import Receipt
from prune_search.pruning.mask.variants import budget_reached
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import UserError
from prune_search.storage.digests import weights_digest
from prune_search.storage.measurements import Measurements
from prune_search.storage.places import StoragePath
from prune_search.tasks.blocks import find_blocks
from prune_search.tasks.raised import raised
from prune_search.tasks.shards import on_cpu
from prune_search.tasks.workers import EndedError, WorkerLostError, WorkersDifferError
from prune_search.training.loop import TrainingError
from prune_search.training.segment import MODEL, Segment, load_model
from prune_search.training.state_store import LackingError, PreemptedError, SegmentClaims, StateStore, Steps
from prune_search.trial.callbacks import Observation, Silent, Sink
from prune_search.trial.errors import TrialError
from prune_search.trial.how_trained import check_teaching
from prune_search.trial.layer_checks import check_layers
from prune_search.trial.metrics import Spent, check_asked, end_metrics, round_metrics, training_metrics
from prune_search.trial.result import Result, RoundResult
from prune_search.trial.retraining import check_low_rank
from prune_search.trial.rounds import Round, rounds_of
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup
from prune_search.trial.together import AgreedSink
from prune_search.trial.training_flops import Costs, spent_in, spent_until


@dataclass(frozen=True)
class Sharing:
    """How a trial shares its training with others that run at the same time.

    Attributes:
        claims: who trains which segment.
        stops: steps of trajectory 1 that others ask for.
        grid: steps of it that others may ask for later.
        steps: the account that the trial writes up.
    """

    claims: SegmentClaims | None = None
    stops: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    steps: Steps = field(default_factory=Steps)


def run_trial(
    setup: TrialSetup,
    storage: StoragePath | None,
    sink: Sink | None = None,
    preset: str | None = None,
    test: bool = True,
    sharing: Sharing | None = None,
    asked: Collection[str] = (),
) -> Result:
    """Run a prepared recipe to its end.

    Args:
        setup: from `setup.prepare`; its network is trained in place, and has the final weights afterwards.
        storage: in which states are found and stored; None keeps them in memory.
        sink: callbacks that receive the progress.
        preset: the name that the user typed.
        test: whether the final network is measured on test data too, which a search never does.
        sharing: the workers with which training is shared; None: stored states are reused, no other worker is asked.
        asked: metrics that are taken besides those that always are: of every round, and where the sink wants a network
            measured in the middle of a retraining.

    Raises:
        LackingError: a segment that it needs is being trained by somebody else.
        PreemptedError: the sink asked for the trial to end; what it reached is stored.
        TrialError: the loss or a score is not a number, or the device is out of memory.
        WorkerLostError, EndedError, WorkersDifferError: with several workers, see `tasks.workers`.
    """
    sink, sharing = sink or Silent(), sharing or Sharing()
    if setup.workers.several:
        sink = AgreedSink(sink, setup.workers)
    begun = time.monotonic()
    measurements = Measurements(storage)
    store = _state_store(setup, storage, sink, sharing)
    with settings_of(setup), contextlib.closing(setup), _as_trial_errors(setup.recipe.task.of_users_code):
        check_teaching(setup)
        check_low_rank(setup)
        check_asked(setup, asked)
        check_layers(setup)
        first, rounds = rounds_of(setup, store)
        results, spent = _rounds_run(setup, store, (first, rounds), sink, measurements, asked)
        last = rounds[-1]
        has_test = test and setup.data.split("test") is not None
        test_metrics = end_metrics(setup, last, "test", spent, measurements) if has_test else {}
        load_model(setup.model, last.result)
        result = _result(setup, last, results, test_metrics, sharing.steps, begun, preset)
        if isinstance(sink, AgreedSink):
            sink.close()
            setup.workers.alike(result.weights_sha256, "result")
    return result


def _rounds_run(
    setup: TrialSetup,
    store: StateStore,
    planned: tuple[Segment, Sequence[Round]],
    sink: Sink,
    measurements: Measurements,
    asked: Collection[str],
) -> tuple[tuple[RoundResult, ...], Spent]:
    """Each round is trained and measured, and the sink told.

    Returns:
        The rounds' results, and what was spent in all.
    """
    first, rounds = planned
    steps = store.steps
    # Where the mask's place shows while the network is trained, its round counts what comes before.
    stable = setup.recipe.mask.stable is not None
    needed_first = 0 if stable else min(first.total, setup.timeline.trained)
    sink.started(setup.key, needed_first + sum(item.needed() for item in rounds))
    steps.needed = needed_first
    costs = Costs.of(setup)
    before = _before_rounds(setup, first, needed_first, costs)
    results: list[RoundResult] = []
    for item in rounds:
        store.watch = _watch(setup, item, (before, costs), sink, asked)
        masks = item.masks
        earlier = before()
        spent = Spent(earlier.steps + item.needed(done=True), earlier.operations + spent_in(item, costs))
        before = partial(_already, spent)
        steps.needed = spent.steps
        metrics = round_metrics(setup, item, spent, measurements, asked)
        found_at = item.k1 if stable else None
        results.append(RoundResult(item.number, _receipt(setup, item, masks), masks.sha256, metrics, found_at))
        sink.round_done(results[-1])
    return tuple(results), before()


def _result(
    setup: TrialSetup,
    last: Round,
    results: tuple[RoundResult, ...],
    test_metrics: Mapping[str, float],
    steps: Steps,
    begun: float,
    preset: str | None,
) -> Result:
    """What a trial ends with, told by its last round."""
    tensors = {key.removeprefix(MODEL): on_cpu(value) for key, value in last.result.items() if key.startswith(MODEL)}
    return Result(
        recipe=setup.recipe,
        key=setup.key,
        paradigm=paradigm(setup.recipe),
        masks=last.masks,
        tensors=tensors,
        weights_sha256=weights_digest(tensors),
        rounds=results,
        test_metrics=test_metrics,
        environment=setup.environment,
        steps=(steps.trained, steps.reused, steps.replayed),
        steps_repeated=steps.repeated,
        seconds=time.monotonic() - begun,
        preset=preset,
        digests=setup.digests,
        inputs=setup.inputs,
        waited_s=setup.waited_s,
        initializer={} if setup.initialized is None else setup.initialized.figures,
    )


def _before_rounds(setup: TrialSetup, first: Segment, needed: int, costs: Costs) -> Callable[[], Spent]:
    """What is spent before the rounds, which is known when trajectory 1 is trained: it can end early."""

    @cache
    def spent() -> Spent:
        early = setup.recipe.train.options.early_stopping is not None
        steps = min(needed, first.known_length()) if early else needed
        return Spent(steps, costs.steps(steps))

    return spent


def _already(spent: Spent) -> Spent:
    return spent


def _state_store(setup: TrialSetup, storage: StoragePath | None, sink: Sink, sharing: Sharing) -> StateStore:
    """Where the trial's states lie, and who is told of them."""
    told = sink.reached
    return StateStore(
        storage,
        sharing.steps,
        setup.environment,
        sink.step,
        sink.stage,
        claims=sharing.claims,
        stops=sharing.stops,
        grid=sharing.grid,
        reached=told,
        workers=setup.workers,
        shards=setup.shards,
    )


def _watch(
    setup: TrialSetup, item: Round, before: tuple[Callable[[], Spent], Costs], sink: Sink, asked: Collection[str]
) -> Callable[[str, int, Callable[[], Mapping[str, Tensor]]], None]:
    """Measures the network in the middle of a round's last retraining, where the sink wants it.

    Args:
        setup: of the trial.
        item: the round.
        before: gives what was spent before the round, once its last segment is trained, and what a step costs.
        sink: who is told.
        asked: metrics that are taken besides those of validation data that always are.
    """
    target = item.end
    settled = item.settled()
    wanted = frozenset(sink.observe_at(target.total, setup.timeline.epoch, settled))
    spent_before, costs = before

    def watch(address: str, step: int, hooks: Callable[[], Mapping[str, Tensor]]) -> None:
        if address == target.address and step in wanted and step < target.total:
            spent = spent_before()
            steps = spent.steps + item.needed(done=True) - target.known_length() + step
            tensors = hooks()
            operations = spent.operations + spent_until(item, costs, item.masks_now(tensors), step)
            metrics = training_metrics(setup, item, tensors, Spent(steps, operations), asked)
            asked_sparsity = float(1 - item.share)
            sink.observed(Observation(item.number, step, step - settled, steps, metrics, asked_sparsity))

    return watch


def _receipt(setup: TrialSetup, item: Round, masks: MaskSet) -> Receipt:
    """The receipt of a round's mask, with the parameters that the mask leaves out."""
    if masks.fused:
        load_model(setup.model, setup.start)
    before = sum(parameter.numel() for parameter in setup.model.parameters())
    _, others = units_and_others(setup.model, item.rule, scoring_data(setup, item.number))
    parameters = None
    if masks.fused:
        load_model(setup.model, item.result)
        parameters = before, sum(parameter.numel() for parameter in setup.model.parameters())
    receipt = masks.of_network(setup.model, others).receipt()
    # What is stored of a mask is its bits.
    blocks = find_blocks(setup.model).told if goes_by_blocks(item.rule) else ""
    budget = budget_reached(setup.model, item.rule, masks, scoring_data(setup, item.number))
    return replace(receipt, search=item.searched(), parameters=parameters, budget=budget, blocks=blocks)


@contextlib.contextmanager
def settings_of(setup: TrialSetup) -> Iterator[None]:
    """The threads of the recipe; the caller's threads and random state are put back."""
    threads = torch.get_num_threads()
    devices = [setup.network.device] if setup.network.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(setup.recipe.train.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _as_trial_errors(users_code: bool) -> Iterator[None]:
    """What training can meet, as one kind of error; whatever a user's own code raises among it."""
    try:
        yield
    except TrainingError as error:
        raise TrialError(error.kind, str(error)) from error
    except ScoreError as error:
        raise TrialError("score", str(error)) from error
    except torch.OutOfMemoryError as error:
        raise TrialError("oom", f"the device is out of memory: {str(error).splitlines()[0]}") from error
    except (WorkerLostError, EndedError, WorkersDifferError, PreemptedError, LackingError, UserError):
        raise
    except Exception as error:
        if not users_code:
            raise
        raise TrialError("code", f"your code raised {raised(error)}") from error


def results_differ(first: Mapping[str, object], second: Mapping[str, object]) -> str:
    """``exact``, ``mask-equal`` or ``different``, of two results as data."""
    if first["mask_sha256"] != second["mask_sha256"]:
        return "different"
    return "exact" if first["weights_sha256"] == second["weights_sha256"] else "mask-equal"
