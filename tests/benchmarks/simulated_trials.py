"""The control loop alone: seconds per trial and per result, and memory, of simulated searches of 100 and 1,000 trials.

    python tests/benchmarks/simulated_trials.py | tee tests/benchmarks/records/simulated_trials.log

Each search runs in a process of its own, with four virtual workers and nothing trained: proposals, stopping rule and
ledger. Processor seconds are those of that process; the disk's are apart, since each record is synced to it. The
sampler's own time is that of Optuna's calls while a proposal is drawn, which grow with the trials that it models, or of
the choices of `guided`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prune_search.api.definition import define
from prune_search.api.where import Where
from prune_search.ledger.records import SEARCH_FILE, search_folder
from prune_search.recipe.recipe import canonical_json
from prune_search.recipe.space import Space
from prune_search.simulation.surface import Simulation

SPACE = """\
task: {data: digits, model: mlp, seed: 0}
train: {steps: 60ep, batch: 64, optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
mask:
  at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}
  criterion: magnitude
  sparsity: {hole: uniform, low: 0.8, high: 0.99}
weights: {at: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%, end]}}
retrain: {until: end, clock: {hole: choice, of: [0it, 1ep, 5ep, 25%, 50%, 75%]}}
search: {trials: 8, concurrency: 4, objectives: [maximize val/accuracy]}
"""
CASES = (
    ("random", "none", False),
    ("random", "asha", False),
    ("random", "asha", True),
    ("random", "asha-promote", False),
    ("random", "asha-promote", True),
    ("tpe", "none", False),
    ("tpe", "asha", True),
    ("nsga2", "none", False),
    ("guided", "none", False),
)


def begin(storage: Path, space: Space, simulation: Simulation, name: str = "benchmark") -> Path:
    """Write search.json; the search's folder."""
    folder = search_folder(storage, name)
    folder.mkdir(parents=True)
    definition = define(space, folder, Where(storage=storage), None, {}, simulation)
    (folder / SEARCH_FILE).write_text(canonical_json(definition))
    return folder


def measure(trials: int, sampler: str, scheduler: str, reproducible: bool) -> dict[str, Any]:
    """Run one search in this process."""
    import optuna

    from prune_search.recipe import strict_yaml
    from prune_search.recipe.space import read_space
    from prune_search.search.guided.guide import Guide
    from prune_search.simulation.search import simulate_search

    sync, spent = os.fsync, {"sync": 0.0, "sampler": 0.0}

    def synced(fd: Any) -> None:
        begun = time.perf_counter()
        sync(fd)
        spent["sync"] += time.perf_counter() - begun

    def counted(call: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            begun = time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                spent["sampler"] += time.process_time() - begun

        return wrapped

    os.fsync = synced
    setattr(Guide, "choose", counted(Guide.choose))  # noqa: B010
    for kind in (optuna.samplers.RandomSampler, optuna.samplers.TPESampler, optuna.samplers.NSGAIISampler):
        for name in ("infer_relative_search_space", "sample_relative", "sample_independent", "before_trial"):
            if name in vars(kind):
                setattr(kind, name, counted(getattr(kind, name)))
    values = {"trials": trials, "sampler": sampler, "scheduler": scheduler, "reproducible": reproducible}
    sets = [(f"search.{key}", value) for key, value in values.items()]
    space = read_space(strict_yaml.load(SPACE), "benchmark", sets)
    simulation = Simulation.of("closed-form")
    with tempfile.TemporaryDirectory() as storage:
        folder = begin(Path(storage), space, simulation)
        before, begun = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        records = simulate_search(space, folder, simulation, lambda: False)
        cpu = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = sum(len(trial.measured) for trial in records.trials.values())
    return {"cpu": cpu, "results": results, "trials": len(records.trials), "before": begun, "peak": peak, **spent}


def main() -> None:
    """Print one line per search, and how the cost of a trial grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "nsga2"], help="those that are run")
    parser.add_argument("--schedulers", nargs="+", default=["none", "asha", "asha-promote"], help="the same")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    print("sampler scheduler         trials  results   cpu s   ms/trial  ms/result  sampler's ms  sync s  peak MiB (+)")
    chosen = [case for case in CASES if case[0] in options.samplers and case[1] in options.schedulers]
    for sampler, scheduler, reproducible in chosen:
        each = []
        for trials in options.trials:
            asked = json.dumps([trials, sampler, scheduler, reproducible])
            command = [sys.executable, __file__, "--one", asked]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            each.append(1000 * (found["cpu"] - found["sampler"]) / found["trials"])
            name = f"{sampler:7} {scheduler + (' reproducible' if reproducible else ''):17}"
            print(f"{name} {trials:6,} {shown(found)}", flush=True)
        first, last = options.trials[0], options.trials[-1]
        print(
            f"        but for the sampler, a trial of {last:,} costs {each[-1] / each[0]:.2f} × one of {first:,}",
            flush=True,
        )


def shown(found: dict[str, Any]) -> str:
    """The figures of one search."""
    per_trial, per_result = (1000 * found["cpu"] / found[key] for key in ("trials", "results"))
    sampler = 1000 * found["sampler"] / found["trials"]
    memory = f"{found['peak'] / 1024:9.0f} (+{(found['peak'] - found['before']) / 1024:.0f})"
    figures = f"{found['results']:8,} {found['cpu']:7.1f} {per_trial:10.2f} {per_result:10.2f} {sampler:13.2f}"
    return f"{figures} {found['sync']:7.1f} {memory}"


if __name__ == "__main__":
    main()
