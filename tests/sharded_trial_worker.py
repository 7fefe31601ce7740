"""One worker, a process of its own: ``sharded_trial_worker.py RANK SIZE FOLDER trials|stop|go-on``.

All workers run the same code, with the network of every trial sharded over them; the first one prints what it found.

``trials``: whole trials by all workers, and then by the first one alone, whose network is whole.
``stop``: a trial that is asked to stop on its way, with its state stored below FOLDER.
``go-on``: the same trial from there on, by however many workers there are now.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from data_parallel_worker import CONV, GROWING, Asked, recipe
from worker_processes import answer

from prune_search.recipe.space import read_space
from prune_search.storage.manifests import MANIFEST, TENSORS
from prune_search.storage.states import read_state, write_state
from prune_search.tasks.shards import is_shard, part_of
from prune_search.tasks.workers import ALONE, Workers
from prune_search.training.state_store import PreemptedError, Steps
from prune_search.trial.callbacks import Guarded, Silent
from prune_search.trial.run import Sharing, run_trial
from prune_search.trial.setup import TrialSetup, prepare

RESNET = {"model": {"name": "resnet-20", "width": 2}, "data": "digits"}
TRIALS: Mapping[str, Mapping[str, Any]] = {
    "magnitude": recipe("magnitude-after-training", retrain={"steps": "3it"}),
    "snip": recipe("snip", task=CONV, train={"clip": 1.0, "accumulate": 2}),
    "synflow": recipe("synflow", mask={"sparsity": 0.7, "score": {"iterations": 5}}),
    "synflow-norms": recipe("synflow", task=RESNET, mask={"sparsity": 0.7, "score": {"iterations": 2}}),
    "rigl": recipe("rigl", retrain={"dynamics": {"name": "rigl", "every": "2it"}}),
    "set": recipe(
        "set",
        task=CONV,
        mask={"sparsity": 0.7, "control": "shuffle"},
        retrain={"dynamics": {"name": "set", "every": "2it"}},
    ),
    "gradual": recipe("gradual-magnitude", retrain={"dynamics": {"name": "gradual", "every": "2it"}}),
    "greg-1": recipe(
        "greg-1",
        task=CONV,
        mask={"sparsity": 0.4, "granularity": "weight", "scope": {"name": "uniform", "exclude": ["first", "last"]}},
        weights={"transform": [GROWING]},
        retrain={"steps": "3it"},
    ),
    "greg-2": recipe(
        "greg-2",
        task=CONV,
        mask={
            "sparsity": 0.4,
            "granularity": "weight",
            "scope": "global",
            "prepare": {"name": "rising-penalty", "step": 0.1, "every": "2it", "until": 0.3},
        },
        weights={"transform": [GROWING]},
        retrain={"steps": "3it"},
    ),
    "edge-popup": recipe("edge-popup", mask={"sparsity": 0.7, "criterion": {"name": "edge-popup", "steps": "6it"}}),
    "lottery-ticket": recipe("lottery-ticket", rounds=2, train={"early_stopping": {"every": "2it", "patience": 9}}),
    "2:4": recipe(
        "magnitude-after-training",
        task=CONV,
        mask={"sparsity": 0.5, "granularity": "2:4", "criterion": "l1", "control": "shuffle"},
        train={"optimizer": {"name": "adamw", "lr": 0.01}},
        retrain={"steps": "3it"},
    ),
    "options": recipe(
        "snip",
        task=RESNET,
        train={"steps": "2it", "activation_checkpointing": True, "accumulate": 2, "clip": 0.5, "ema": 0.5},
    ),
    "reinit": recipe("snip", task=RESNET, weights={"transform": ["reinit"]}),
    "bf16": recipe("magnitude-after-training", train={"precision": "bf16"}, retrain={"steps": "3it"}),
}


def setup_of(raw: Mapping[str, Any], workers: Workers) -> TrialSetup:
    """A trial, whose key and addresses are those of one to three workers."""
    made = read_space(raw, "a test").only_recipe()
    return prepare(made, torch.device("cpu"), workers=workers, declared="1-3", sharded=True)


class Watching(Silent):
    """A sink that looks at what is measured in the middle of a retraining."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe_at(self, total: int, epoch: int, settled: int) -> tuple[int, ...]:
        return (2,)

    def observed(self, seen: Any) -> None:
        self.seen.append(seen.metrics["val/loss"])


def ran(raw: Mapping[str, Any], workers: Workers, storage: Path | None = None) -> dict[str, Any]:
    """A trial's masks after each round, its figures, and how much of the network this worker holds at its end."""
    setup, sink = setup_of(raw, workers), Watching()
    result = run_trial(setup, storage, sink)
    last = result.rounds[-1]
    parameters = list(setup.model.parameters())
    return {
        "masks": [item.mask_sha256 for item in result.rounds],
        "metrics": {key: value for key, value in last.metrics.items() if value is not None},
        "receipt": last.receipt.as_data(),
        "watched": sink.seen,
        "steps": list(result.steps),
        "weights": result.weights_sha256,
        "start": setup.digests["network"],
        "held": [sum(part_of(one).numel() for one in parameters), sum(one.numel() for one in parameters)],
        "shards": all(map(is_shard, parameters)),
    }


def trials(workers: Workers, folder: Path) -> dict[str, Any]:
    """Each trial by all workers and by the first one alone, and some again from what was stored."""
    storage = folder / "trials" if workers.first else None
    together = {name: ran(raw, workers, storage) for name, raw in TRIALS.items()}
    stored = {name: ran(TRIALS[name], workers, storage) for name in ("rigl", "edge-popup", "lottery-ticket")}
    alone = {name: ran(raw, ALONE) for name, raw in TRIALS.items()} if workers.first else {}
    return {"together": together, "stored": stored, "alone": alone}


GOES_ON: Mapping[str, Mapping[str, Any]] = {
    "rigl": recipe(
        "rigl",
        task=CONV,
        train={"steps": "8it", "ema": 0.5, "optimizer": {"name": "adamw", "lr": 0.01}},
        retrain={"dynamics": {"name": "rigl", "every": "3it"}},
    ),
    "edge-popup": recipe("edge-popup", mask={"sparsity": 0.7, "criterion": {"name": "edge-popup", "steps": "8it"}}),
}


def stop(workers: Workers, folder: Path) -> dict[str, Any]:
    """What is stored where trials were asked to stop, and whether whole networks' states would be the same bytes."""
    first, trained = workers.first, {}
    for name, raw in GOES_ON.items():
        asked, steps = Asked(4), Steps()
        sink = Guarded(asked, lambda asked=asked: asked.left <= 0) if first else Silent()  # type: ignore[misc]
        storage = folder / "states" if first else None
        try:
            run_trial(setup_of(raw, workers), storage, sink, sharing=Sharing(steps=steps))
        except PreemptedError:
            trained[name] = steps.trained
    if not first:
        return {}
    found: dict[str, Any] = {"trained": trained, "same bytes": [], "shapes": {}}
    for number, file in enumerate(sorted((folder / "states").rglob(TENSORS))):
        state = read_state(file.parent)
        assert state is not None
        again = folder / "again" / str(number)
        write_state(again, state.tensors, state.meta)
        for name in (TENSORS, MANIFEST):
            found["same bytes"].append((again / name).read_bytes() == (file.parent / name).read_bytes())
        found["shapes"].update({key: list(one.shape) for key, one in state.tensors.items()})
    return found


def go_on(workers: Workers, folder: Path) -> dict[str, Any]:
    """The trials to their ends, from the states that others have stored; in a copy of their storage."""
    own = folder / f"states-{workers.size}"
    if workers.first:
        shutil.copytree(folder / "states", own)
    return {name: ran(raw, workers, own if workers.first else None) for name, raw in GOES_ON.items()}


RUNS: dict[str, Callable[[Workers, Path], dict[str, Any]]] = {
    "trials": trials,
    "stop": stop,
    "go-on": go_on,
}

if __name__ == "__main__":
    answer(lambda name, folder: RUNS[name](Workers.joined() if dist.get_world_size() > 1 else ALONE, folder))
