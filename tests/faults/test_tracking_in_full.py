"""Rows 5 and 6 of the fault table at their full length; a few minutes.

Made-up trials write 4 x 200 values while MLflow is away or slow; real searches are launched, and their course is
compared with that of a search that nothing disturbs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS, LocalServer, deliver_rest, free_port, local_server
from real_search import SMALL, environment, outcomes
from stubbed_mlflow import Act, check, in_front_of, measured_values, run_trials, search_of, threads_calling

import prune_search
from prune_search import Options, Where
from prune_search.ledger.records import SearchRecords, read_search, search_folder
from prune_search.tracking.delivery_thread import sync

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.services, MLFLOW_WARNINGS]

SPACE = f"""\
# prune-search launch four.yaml
{SMALL}
preset: random
mask: {{sparsity: {{hole: uniform, low: 0.3, high: 0.9}}}}
search: {{trials: 4, concurrency: 2, reproducible: true, seed: 5}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.mark.parametrize("away_s", [0, 20, 60])
def test_a_server_that_was_killed_and_comes_back_gets_every_value_once(tmp_path: Path, away_s: int) -> None:
    """Row 5: 4 trials x 200 values, written before, while and after the server is away."""
    with local_server(tmp_path) as own:
        folder, maker = search_of(own, "killed")
        delivery_thread, threads = threads_calling(own.uri, folder)
        delivery_thread.start()
        with ThreadPoolExecutor(1) as pool:
            trials = pool.submit(run_trials, maker, 10.0 + away_s)
            time.sleep(3)
            own.stop()
            time.sleep(away_s)
            own.start()
            trials.result()
        left = delivery_thread.finish(300)
        assert (left.waiting, left.reason) == (0, "")
        values = measured_values(check(own, folder))
        assert (len(values), len(set(values))) == (800, 800)
        assert threads == {"tracking"}


@pytest.fixture(scope="module")
def undisturbed(trouble: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchRecords:
    """The search of `SPACE` with MLflow in a file."""
    home = tmp_path_factory.mktemp("undisturbed")
    (home / "four.yaml").write_text(SPACE)
    return prune_search.launch(home / "four.yaml", where=Where(storage=home)).records


def test_a_launch_without_any_mlflow_ends_with_0_and_sync_delivers_later(
    tmp_path: Path, trouble: Path, undisturbed: SearchRecords, typed: Typed
) -> None:
    """Row 5, for ever."""
    own = LocalServer(tmp_path, free_port())
    (tmp_path / "four.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "prune_search", "launch", "four.yaml", "--json"]
    command += ["--storage", str(tmp_path), "--tracking-uri", own.uri]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(trouble), cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["trials"]["completed"] == 4
    assert said["undelivered"] > 0
    assert "prune-search sync four" in done.stderr
    assert "Traceback" not in done.stderr
    folder = search_folder(tmp_path, "four")
    assert outcomes(read_search(folder)) == outcomes(undisturbed)
    refused = typed("sync", "four")
    assert (refused.code, refused.out) == (3, "")
    assert len(refused.err.splitlines()) == 1
    try:
        own.start()
        assert typed("sync", "four").code == 0
        check(own, folder)
        assert "all is there" in typed("sync", "four").out
    finally:
        own.stop()


def test_a_server_that_takes_5_seconds_for_a_call_loses_nothing(server: LocalServer) -> None:
    """Row 6: 800 values in few calls, for none of which a trial waits."""
    with in_front_of(server) as front:
        folder, maker = search_of(server, "slow")
        front.act = lambda number, path: Act(wait_s=5.0)
        delivery_thread, threads = threads_calling(front.uri, folder)
        delivery_thread.start()
        run_trials(maker, 60.0)
        assert delivery_thread.finish(300).waiting == 0
        values = measured_values(check(server, folder))
        assert (len(values), len(set(values))) == (800, 800)
        assert len(front.seen) < 100
        assert threads == {"tracking"}


ACTS: dict[str, Callable[[int, str], Act]] = {
    "5 seconds a call": lambda number, path: Act(wait_s=5.0),
    "429 at every call": lambda number, path: Act(status=429),
    "500 at every call": lambda number, path: Act(status=500),
    "429 at every second call": lambda number, path: Act(status=429 if number % 2 else None),
    "500 at every second call": lambda number, path: Act(status=500 if number % 2 else None),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_search_takes_the_same_course_whatever_mlflow_answers(
    server: LocalServer, undisturbed: SearchRecords, tmp_path: Path, name: str
) -> None:
    """Row 6, with real training."""
    (tmp_path / "four.yaml").write_text(SPACE)
    search = "".join(letter if letter.isalnum() else "-" for letter in name)
    with in_front_of(server) as front:
        front.act = ACTS[name]
        options = Options(search, tracking_uri=front.uri)
        outcome = prune_search.launch(tmp_path / "four.yaml", where=Where(storage=tmp_path), options=options)
        assert front.seen
        assert outcome.as_data()["trials"]["completed"] == 4
        assert outcomes(outcome.records) == outcomes(undisturbed)
        # What did not get through in the half minute after the search is delivered by hand.
        front.act = lambda number, path: Act()
        deliver_rest(outcome.records.folder)
        assert sync(outcome.records.folder).operations == 0
        check(server, tmp_path / "searches" / search)
