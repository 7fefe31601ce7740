"""Nodes of a cluster that are killed: row 2 of the fault table."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS, deliver_rest, local_server
from real_search import SMALL, outcomes, troubles, wait_for
from stubbed_mlflow import check
from virtual_cluster import Nodes, Planned, run_searches

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords, read_search, search_folder
from prune_search.ledger.tracking_uri import default_uri

pytestmark = [MLFLOW_WARNINGS, pytest.mark.faults, pytest.mark.usefixtures("known")]

# Steps of each of the three trainings.
STEPS, ROUNDS = 20 * 10, 2
SPACE = f"""\
# prune-search launch halting.yaml
task: {{data: digits, model: halting, seed: 0}}
train: {{steps: 20ep, batch: 120, optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}}}
preset: lottery-ticket
mask: {{sparsity: {{per_round: {{hole: choice, of: [0.3]}}}}}}
rounds: {ROUNDS}
search: {{sampler: grid, trials: 1, concurrency: 1, controls: false}}
"""


@pytest.fixture(scope="module", autouse=True)
def known(trouble: Path) -> Iterator[None]:
    """Ray runs, and the model that makes trouble is known."""
    with troubles():
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """The trial as nobody disturbs it, on no cluster."""
    home = tmp_path_factory.mktemp("unbroken")
    (home / "halting.yaml").write_text(SPACE)
    options = Options("unbroken", default_uri(home))
    return prune_search.launch(home / "halting.yaml", where=Where(storage=home), options=options).records


@pytest.mark.parametrize(
    ("kills", "seed"), [(1, 0), pytest.param(10, 1, marks=pytest.mark.long)], ids=["1 kill", "10 kills"]
)
def test_a_trial_whose_node_is_killed_ends_with_the_same_weights(
    unbroken: SearchRecords,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    kills: int,
    seed: int,
) -> None:
    draw = random.Random(seed)
    (tmp_path / "halting.yaml").write_text(SPACE)
    plans = [
        Planned(
            name=f"killed-{number}",
            file=str(tmp_path / "halting.yaml"),
            storage=str(tmp_path / str(number)),
            tracking_uri=default_uri(tmp_path),
            halt=draw.randint(1, STEPS * (ROUNDS + 1)),
        )
        for number in range(kills)
    ]
    ended = run_searches(Nodes(2), plans, tmp_path, limit_s=300 + 120 * kills)
    assert [len(one["killed"]) for one in ended] == [1] * kills
    for plan in plans:
        records = read_search(search_folder(Path(plan.storage), plan.name))
        (trial,) = records.numbered()
        assert [attempt.data["node"] != "" for attempt in trial.attempts] == [True, True]
        assert trial.attempts[0].data["node"] != trial.attempts[1].data["node"]
        assert outcomes(records) == outcomes(unbroken)
        assert trial.result["weights_sha256"] == unbroken.numbered()[0].result["weights_sha256"]
    steps = ", ".join(str(plan.halt) for plan in plans)
    record_property("figure", f"{len(ended)}/{kills} equal bit for bit; nodes killed at steps {steps} of {3 * STEPS}")


ELASTIC = """\
# prune-search launch elastic.yaml
task: {data: digits, model: halting, seed: 0}
train: {steps: 3ep, batch: 128, optimizer: {name: sgd, lr: 0.1}}
mask: {sparsity: {hole: uniform, low: 0.7, high: 0.8}}
preset: snip
search: {trials: 1, concurrency: 1, controls: false, workers_per_trial: {at_least: 1, at_most: 2}}
"""


@pytest.mark.long
@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
def test_a_trial_that_lost_a_node_goes_on_with_fewer_workers(tmp_path: Path, sharded: bool) -> None:
    """There is room for two workers, and for one once the node of the first worker is gone."""
    (tmp_path / "elastic.yaml").write_text(ELASTIC)
    plan = Planned(
        name="elastic",
        file=str(tmp_path / "elastic.yaml"),
        storage=str(tmp_path / "storage"),
        tracking_uri=default_uri(tmp_path),
        halt=12,
        sets={"search.sharded": sharded},
    )
    (ended,) = run_searches(Nodes(2), [plan], tmp_path, limit_s=900)
    assert len(ended["killed"]) == 1
    records = read_search(search_folder(Path(plan.storage), plan.name))
    (trial,) = records.numbered()
    assert trial.status == "completed"
    _, second = (attempt.data["node"] for attempt in trial.attempts)
    assert second not in ended["killed"]
    assert trial.result["environment"]["workers"] == "1-2"


MANY = f"""\
# prune-search launch many.yaml
{SMALL}
mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.95}}}}
any:
- preset: snip
- preset: magnitude-after-training
  retrain: {{steps: {{hole: int, low: 1ep, high: 3ep}}, clock: {{hold: {{hole: loguniform, low: 0.01, high: 0.1}}}}}}
- preset: random
- preset: late-rewinding
  weights: {{at: 1ep}}
  rounds: {{hole: int, low: 2, high: 3}}
search: {{trials: 60, concurrency: 3, reproducible: true, seed: 7}}
"""
AWAY_S = 20.0


@pytest.mark.long
def test_sixty_trials_take_the_same_course_without_a_node_and_without_mlflow(
    trouble: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A node is killed and MLflow is away for 20 s: the undisturbed search trial by trial, every value once."""
    (tmp_path / "many.yaml").write_text(MANY)
    where, options = Where(storage=tmp_path / "calm"), Options("calm", default_uri(tmp_path / "calm"))
    calm = prune_search.launch(tmp_path / "many.yaml", where=where, options=options)
    storage = tmp_path / "storage"
    storage.mkdir()
    folder = search_folder(storage, "many")
    with local_server(storage) as server:

        def take_away() -> None:
            wait_for(lambda: len(list(folder.glob("trials/*/ended-*"))) >= 15, 600)
            server.stop()
            time.sleep(AWAY_S)
            server.start()

        away = threading.Thread(target=take_away, daemon=True)
        away.start()
        plan = Planned("many", str(tmp_path / "many.yaml"), str(storage), server.uri, ended=20)
        (ended,) = run_searches(Nodes(3), [plan], tmp_path, limit_s=1500)
        away.join()
        assert len(ended["killed"]) == 1
        assert sum(ended["counts"].values()) == 60
        records = read_search(folder)
        assert outcomes(records) == outcomes(calm.records)
        deliver_rest(folder)
        found = check(server, folder)
    values = [(item.key, name, step) for item in found for name, step, _, _ in item.rows]
    assert len(values) == len(set(values))
    record_property("figure", f"{len(records.numbered())}/60 trials equal, {len(values)} metrics, 0 lost, 0 twice")
