"""One recipe, run: every round of w(k) → f1 → f2 → f3, measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from prune_search.pruning.mask.finder import units_and_others
from prune_search.pruning.mask.mask_set import ScoreError
from prune_search.recipe.axes import METRICS
from prune_search.recipe.paradigm import paradigm
from prune_search.recipe.problems import UserError
from prune_search.recipe.schema import is_user_code
from prune_search.storage.digests import tensors_digest
from prune_search.storage.measurements import Measurements
from prune_search.storage.places import StoragePath
from prune_search.tasks.data import Split
from prune_search.tasks.metrics import Measured, evaluate
from prune_search.training.loop import PreemptedError, TrainingError, WorkerLostError
from prune_search.training.segment import MODEL, Segment, load_model
from prune_search.training.state_store import LackingError, SegmentClaims, StateStore, Steps
from prune_search.trial.callbacks import Observation, Silent, Sink
from prune_search.trial.errors import TrialError
from prune_search.trial.result import Result, RoundResult
from prune_search.trial.rounds import Round, rounds_of
from prune_search.trial.scoring_data import scoring_data
from prune_search.trial.setup import TrialSetup
from prune_search.trial.training_flops import Costs, Operations, spent_in

# What the trial has taken so far: steps, and operations.
Spent = tuple[Steps, Operations]


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
        sink: who is told how it goes.
        preset: the name that the user typed.
        test: whether the final network is measured on test data too, which a search never does.
        sharing: with whom training is shared while it runs; None: what is stored is taken up, and nobody is asked.
        asked: metrics that are taken of every round, besides those that always are.

    Raises:
        LackingError: a segment that it needs is being trained by somebody else.
        PreemptedError: the sink asked for the trial to end; what it reached is stored.
        TrialError: the loss or a score is not a number, or the device is out of memory.
    """
    sink, sharing = sink or Silent(), sharing or Sharing()
    steps = sharing.steps
    begun = time.monotonic()
    measurements = Measurements(storage)
    store = _vault(setup, storage, sink, sharing)
    with settings_of(setup), _as_trial_errors(is_user_code(setup.recipe.blocks["task"]["model"])):
        first, rounds = rounds_of(setup, store)
        # Where the mask's place shows while the network is trained, its round counts what comes before.
        stable = isinstance(setup.recipe.mask["at"], Mapping)
        needed_first = 0 if stable else min(first.total, setup.timeline.trained)
        sink.started(setup.key, needed_first + sum(item.needed() for item in rounds))
        results = []
        steps.needed = needed_first
        costs = Costs.of(setup)
        spent = costs.steps(needed_first)
        for item in rounds:
            store.watch = _watch(setup, item, steps, sink)
            _ = item.masks
            spent += spent_in(item, costs)
            results.append(_measured(setup, item, (steps, spent), sink, _Taking(measurements, frozenset(asked))))
        last = rounds[-1]
        metrics = dict(results[-1].metrics)
        if test:
            metrics.update(_metrics(setup, last, "test", (steps, spent), _Taking(measurements)))
        load_model(setup.model, last.result)
        tensors = {key.removeprefix(MODEL): value.cpu() for key, value in last.result.items() if key.startswith(MODEL)}
    return Result(
        recipe=setup.recipe,
        key=setup.key,
        paradigm=paradigm(setup.recipe),
        masks=last.masks,
        tensors=tensors,
        weights_sha256=tensors_digest(tensors),
        rounds=tuple(results),
        metrics=metrics,
        environment=setup.environment,
        steps=(steps.trained, steps.reused, steps.replayed),
        steps_repeated=steps.repeated,
        seconds=time.monotonic() - begun,
        preset=preset,
        digests=setup.digests,
    )


def _vault(setup: TrialSetup, storage: StoragePath | None, sink: Sink, sharing: Sharing) -> StateStore:
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
        reached=lambda segment, step: told(segment.place, step),
    )


def _watch(setup: TrialSetup, item: Round, steps: Steps, sink: Sink) -> Callable[[Segment, int], None]:
    """Measures the network in the middle of a round's last retraining, where the sink wants it."""
    target = item.end
    settled = item.settled()
    wanted = frozenset(sink.observe_at(target.total, setup.timeline.epoch, settled))

    def watch(segment: Segment, step: int) -> None:
        if segment is target and step in wanted and step < target.total:
            scores = evaluate(setup.model, setup.data.validation, autocast=setup.network.autocast)
            metrics = {f"val/{name}": value for name, value in scores.items()}
            asked = float(1 - item.share)
            before = steps.needed + item.needed(done=True) - target.known_length()
            sink.observed(Observation(item.number, step, step - settled, before + step, metrics, asked))

    return watch


@dataclass(frozen=True)
class _Taking:
    """How metrics are taken: from the stored measurements, and which besides those that always are."""

    measurements: Measurements
    asked: frozenset[str] = frozenset()


def _measured(setup: TrialSetup, item: Round, spent: Spent, sink: Sink, taking: _Taking) -> RoundResult:
    """Measure a round that was run: every round of a chain is a result of its own."""
    masks = item.masks
    spent[0].needed += item.needed(done=True)
    metrics = _metrics(setup, item, "validation", spent, taking)
    found_at = item.k1 if isinstance(setup.recipe.mask["at"], Mapping) else None
    _, others = units_and_others(setup.model, item.rule, scoring_data(setup, item.number))
    receipt = masks.of_network(setup.model, others).receipt()
    result = RoundResult(item.number, receipt, masks.sha256, metrics, found_at)
    sink.round_done(result)
    return result


def _metrics(setup: TrialSetup, item: Round, split: str, spent: Spent, taking: _Taking) -> dict[str, float]:
    """The registered metrics of a split, and on validation also those that need no data."""
    masks = item.masks

    @cache
    def loaded() -> nn.Module:
        # Not before something is measured: what is stored needs no network.
        load_model(setup.model, item.result)
        masks.apply(setup.model)
        return setup.model

    def scores() -> dict[str, float]:
        return evaluate(loaded(), _split(setup, split), autocast=setup.network.autocast)

    network = {"vertex": item.end.address, "mask": masks.sha256, "environment": dict(setup.environment)}
    what = {"kind": "scores", "split": split, "data": setup.digests["data"], **network}
    measured = Measured(
        scores={split: taking.measurements.of(what, scores)},
        kept=masks.kept,
        total={name: mask.numel() for name, mask in masks.items()},
        steps_trained=spent[0].needed,
        load=loaded,
        data=setup.data,
        operations=spent[1].as_data(),
        masks=masks,
        take=lambda asked, measure: taking.measurements.of({**asked, **network}, measure),
    )
    wanted = (split,) if split == "test" else (split, "")
    return {
        name: entry.make(measured)
        for name, entry in METRICS.items()
        if entry.facts.split in wanted and (entry.facts.always or name in taking.asked)
    }


def _split(setup: TrialSetup, split: str) -> Split:
    return {"validation": setup.data.validation, "test": setup.data.test}[split]


@contextlib.contextmanager
def settings_of(setup: TrialSetup) -> Iterator[None]:
    """The threads of the recipe; the caller's threads and random state are put back."""
    threads = torch.get_num_threads()
    devices = [setup.network.device] if setup.network.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.set_num_threads(setup.recipe.train["threads"])
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _as_trial_errors(users_model: bool) -> Iterator[None]:
    """What training can meet, as one kind of error; whatever a user's own model raises among it."""
    try:
        yield
    except TrainingError as error:
        raise TrialError(error.kind, str(error)) from error
    except ScoreError as error:
        raise TrialError("score", str(error)) from error
    except torch.OutOfMemoryError as error:
        raise TrialError("oom", f"the device is out of memory: {str(error).splitlines()[0]}") from error
    except (WorkerLostError, PreemptedError, LackingError, UserError):
        raise
    except Exception as error:
        if not users_model:
            raise
        lines = str(error).splitlines() or [""]
        raise TrialError("code", f"your model raised {type(error).__name__}: {lines[0][:300]}") from error


def results_differ(first: Mapping[str, object], second: Mapping[str, object]) -> str:
    """``exact``, ``mask-equal`` or ``different``, of two results as data."""
    if first["mask_sha256"] != second["mask_sha256"]:
        return "different"
    return "exact" if first["weights_sha256"] == second["weights_sha256"] else "mask-equal"
