"""1,000 simulated trials on 8 virtual nodes: the driver's time and memory. And values per second into a real MLflow.

    python tests/benchmarks/cluster_trials.py | tee tests/benchmarks/records/cluster_trials.log

The trials run under Ray Tune on a cluster of eight nodes on this machine, by the driver as it is; in place of training
they write what a trained trial writes. Processor seconds are the driver's own, with all threads of Ray in it. Delivery
is that of another search, by ``prune-search sync`` to an MLflow server on this machine: runs, params, tags, files and
values. Beside it, in turns, the same values go to runs that are there already, by one `MlflowClient.log_batch` for each
trial, and by batches of 20 and of 10 values, as a loop that logs while it trains has them; and to runs that are made
and ended as well. A trial of this surface has some 70 values: the fewer it has, the more the other calls weigh.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from real_mlflow import local_server  # noqa: E402
from simulated_trials import SPACE, begin  # noqa: E402
from virtual_cluster import Nodes, virtual_cluster  # noqa: E402

from prune_search.ledger.records import SearchRecords, read_search  # noqa: E402
from prune_search.recipe import strict_yaml  # noqa: E402
from prune_search.recipe.recipe import Recipe  # noqa: E402
from prune_search.recipe.schema import BLOCKS  # noqa: E402
from prune_search.recipe.space import Space, read_space  # noqa: E402
from prune_search.simulation.surface import Simulation  # noqa: E402

SURFACE = "closed-form"


def space_of(trials: int, concurrency: int) -> Space:
    """What is searched."""
    sets = {"trials": trials, "sampler": "random", "concurrency": concurrency, "controls": False}
    return read_space(strict_yaml.load(SPACE), "benchmark", [(f"search.{key}", value) for key, value in sets.items()])


def simulated_trainable(config: Mapping[str, Any]) -> None:
    """In place of `worker.trainable`: writes the records of a trial without training it."""
    from ray import tune

    from prune_search.ledger.records import Recorder
    from prune_search.search.ledger_callbacks import LedgerSink
    from prune_search.search.ray.worker import TrialJob
    from prune_search.simulation.run import SimulatedSteps, Trial
    from prune_search.simulation.trained import Trained

    job = TrialJob.of_config(config)
    recorder, begun = Recorder(Path(job.folder), job.trial), time.monotonic()
    recorder.write("started", {"host": "simulated", "pid": os.getpid(), "node": ""})
    steps = SimulatedSteps()
    sink = LedgerSink(recorder, None, job.recipe["rounds"], steps)
    recipe = Recipe.read({key: job.recipe[key] for key in BLOCKS})
    trial = Trial(recipe, Simulation.of(SURFACE), Trained(), sink, steps)
    running = trial.run(0.0)
    try:
        now = next(running)
        while True:
            now = running.send(now)
    except StopIteration as done:
        result = done.value
    spent = {"steps_trained": steps.trained, "steps_saved": 0, "seconds": time.monotonic() - begun}
    recorder.write("ended", {"status": "completed", "result": result, "error": None, **spent})
    tune.report({"status": "completed"})


def control_loop(trials: int, nodes: int) -> None:
    """Run a search on a cluster, and print what it costs the driver."""
    from cluster_trials import simulated_trainable as trainable

    from prune_search.search.launch_options import LaunchOptions
    from prune_search.search.ray import driver
    from prune_search.search.stop_request import StopRequest

    space = space_of(trials, nodes)
    vars(driver).update(trainable=trainable)
    with tempfile.TemporaryDirectory() as storage, virtual_cluster(Nodes(nodes)):
        folder = begin(Path(storage), space, Simulation.of(SURFACE))
        launched = driver.Launched(folder, space, LaunchOptions(storage))
        before, cpu, wall = _peak(), time.process_time(), time.monotonic()
        records = driver.run_search(launched, StopRequest())
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    ended = [trial for trial in records.numbered() if trial.status == "completed"]
    results = sum(len(trial.measured) for trial in ended)
    print(f"{len(ended):,} of {trials:,} trials completed on {nodes} nodes; {results:,} results")
    print(
        f"  the driver: {1000 * cpu / len(ended):.2f} ms of a processor a trial, {1000 * cpu / results:.2f} ms a result"
    )
    print(f"  {len(ended) / wall:.1f} trials/s, workers' start included ({wall:.0f} s)")
    print(f"  peak memory of the driver: {_peak():.0f} MiB (+{_peak() - before:.0f} since the cluster was there)")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def delivery(trials: int, rounds: int) -> None:
    """Deliver searches and the same values bare in turns, and print values per second."""
    from prune_search.simulation.search import simulate_search
    from prune_search.tracking.delivery_thread import sync
    from prune_search.tracking.settings import settings

    space, simulation = space_of(trials, 4), Simulation.of(SURFACE)
    ours: list[float] = []
    bare: dict[str, list[float]] = {}
    sent = 0
    with settings(), tempfile.TemporaryDirectory() as storage, local_server(Path(storage)) as server:
        for number in range(rounds):
            folder = begin(Path(storage), space, simulation, f"delivered-{number}")
            simulate_search(space, folder, simulation, lambda: False)
            search = read_search(folder)
            begun = time.monotonic()
            delivered = sync(folder, server.uri)
            ours.append(delivered.metrics / (time.monotonic() - begun))
            sent += delivered.metrics
            for name, rate in _bare(server.uri, search).items():
                bare.setdefault(name, []).append(rate)
    print(f"{sent:,} values of {rounds * trials:,} trials delivered in {rounds} rounds, each beside a bare one")
    print(f"  {'delivered':32} {_spread(ours)} values/s: runs, params, tags, files, data sets, values, ends")
    for name, rates in bare.items():
        ratios = [mine / other for mine, other in zip(ours, rates, strict=True)]
        print(f"  {name:32} {_spread(rates)} values/s; of it delivered {_spread(ratios, 2)}")


def _spread(figures: list[float], digits: int = 0) -> str:
    """The median, and from where to where."""
    found = sorted(figures)
    return f"{found[len(found) // 2]:.{digits}f} ({found[0]:.{digits}f} to {found[-1]:.{digits}f})"


def _bare(uri: str, search: SearchRecords) -> dict[str, float]:
    """Values per second of `log_batch` alone, into runs that are there; and with the making and the end of the runs."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from prune_search.tracking.project import project

    client = MlflowClient(uri)
    experiment = client.create_experiment(f"bare {search.name}")
    points = [view.content.points for view in project(search)]
    metrics = [[Metric(point.name, point.value, point.time_ms, point.step) for point in some] for some in points]
    values = sum(map(len, metrics))

    def logged(size: int) -> tuple[float, float]:
        """Seconds of the values alone, and of the runs' making and end as well."""
        made = time.monotonic()
        runs = [client.create_run(experiment).info.run_id for _ in metrics]
        begun = time.monotonic()
        for run_id, some in zip(runs, metrics, strict=True):
            for place in range(0, len(some), size):
                client.log_batch(run_id, metrics=some[place : place + size])
        done = time.monotonic()
        for run_id in runs:
            client.set_terminated(run_id)
        return done - begun, time.monotonic() - made

    alone, whole = logged(500)
    return {
        "log_batch alone": values / alone,
        **{f"log_batch alone, {size} at a time": values / logged(size)[0] for size in (20, 10)},
        "create_run, log_batch, the end": values / whole,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--delivered", type=int, default=100, help="trials of each search that is delivered")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    )
    if options.trials:
        control_loop(options.trials, options.nodes)
    if options.rounds:
        delivery(options.delivered, options.rounds)


if __name__ == "__main__":
    main()
