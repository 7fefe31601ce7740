"""MLflow away, overloaded, broken, exposed: rows 5, 6, A4 and A6 of the fault table, on a real server.

What takes minutes (20 and 60 seconds away, 5 seconds a call) is in test_tracking_in_full.py.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from made_search import make_search
from real_mlflow import MLFLOW_WARNINGS, LocalServer, local_server
from stubbed_mlflow import Act, Stub, check, in_front_of, measured_values, run_trials, search_of, threads_calling

from prune_search.tracking.delivery_thread import DeliveryThread, TrackingError, sync
from prune_search.tracking.server import UnreachableError, connect

pytestmark = [pytest.mark.faults, pytest.mark.services, MLFLOW_WARNINGS]

CREATE_RUN = "/api/2.0/mlflow/runs/create"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.tracking.delivery_thread.FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("prune_search.tracking.delivery_thread.LOOK_EVERY_S", 0.3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.fixture
def front(server: LocalServer) -> Iterator[Stub]:
    with in_front_of(server) as stub:
        yield stub


def test_away_for_a_while_every_value_arrives_once(server: LocalServer, front: Stub) -> None:
    """4 trials x 50 measurements x 4 metrics; the server is away for the first half."""
    folder, maker = search_of(server, "away")
    back = time.monotonic() + 1.0
    front.act = lambda number, path: Act(gone=time.monotonic() < back)
    delivery_thread, threads = threads_calling(front.uri, folder)
    delivery_thread.start()
    run_trials(maker, 2.0)
    left = delivery_thread.finish(60)
    assert (left.waiting, left.reason) == (0, "")
    values = measured_values(check(server, folder))
    assert (len(values), len(set(values))) == (800, 800)
    assert threads == {"tracking"}


def test_away_for_ever_costs_the_search_no_time_and_sync_delivers_later(server: LocalServer, front: Stub) -> None:
    folder, maker = search_of(server, "for-ever")
    front.act = lambda number, path: Act(gone=True)
    delivery_thread = DeliveryThread(folder, front.uri, "digits/mlp")
    delivery_thread.start()
    run_trials(maker, 1.0)
    begun = time.monotonic()
    left = delivery_thread.finish(1.0)
    assert time.monotonic() - begun < 5.0
    assert left.waiting > 800
    assert front.seen
    with pytest.raises(TrackingError, match=rf"^MLflow at {front.uri} cannot be reached: [^\n]+$"):
        sync(folder, front.uri)
    front.act = lambda number, path: Act()
    assert sync(folder, front.uri).operations >= left.waiting
    values = measured_values(check(server, folder))
    assert (len(values), len(set(values))) == (800, 800)


def test_a_run_whose_making_was_not_answered_is_not_made_again(server: LocalServer, front: Stub) -> None:
    folder = make_search(server.storage, "no-answer", trials=2, points=2)
    lost: list[int] = []

    def act(number: int, path: str) -> Act:
        # Every second making of a run is carried out and not answered.
        if path == CREATE_RUN and front.seen.count(path) % 2:
            lost.append(number)
            return Act(deaf=True)
        return Act()

    front.act = act
    delivery_thread = DeliveryThread(folder, front.uri, "digits/mlp")
    delivery_thread.start()
    assert delivery_thread.finish(60).waiting == 0
    assert len(lost) >= 2
    assert len(check(server, folder)) == 4
    assert front.seen.count(CREATE_RUN) == 4


@pytest.mark.slow
def test_answers_lost_at_random_leave_nothing_twice(server: LocalServer, front: Stub) -> None:
    folder = make_search(server.storage, "at-random", trials=3, points=3)
    rng = random.Random(5)
    front.act = lambda number, path: Act(deaf=rng.random() < 0.2, gone=rng.random() < 0.1)
    delivery_thread = DeliveryThread(folder, front.uri, "digits/mlp")
    delivery_thread.start()
    assert delivery_thread.finish(120).waiting == 0
    check(server, folder)


@pytest.mark.parametrize("status", [429, 500])
def test_an_overloaded_or_broken_server_loses_nothing(server: LocalServer, front: Stub, status: int) -> None:
    folder = make_search(server.storage, f"status-{status}", trials=2, points=2)
    front.act = lambda number, path: Act(status=status if number % 6 == 3 else None)
    delivery_thread = DeliveryThread(folder, front.uri, "digits/mlp")
    delivery_thread.start()
    assert delivery_thread.finish(60).waiting == 0
    check(server, folder)


def test_a_process_ends_at_once_though_its_mlflow_hangs(server: LocalServer, front: Stub) -> None:
    folder = make_search(server.storage, "hangs", trials=1, points=1)
    front.act = lambda number, path: Act(wait_s=120.0)
    code = (
        "import sys; from pathlib import Path; from prune_search.tracking.delivery_thread import DeliveryThread\n"
        "drain = DeliveryThread(Path(sys.argv[1]), sys.argv[2], 'digits/mlp'); drain.start()\n"
        "import time; time.sleep(float(sys.argv[3])); left = drain.finish(0.5); print(left.waiting > 0)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), front.uri, "3"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert time.monotonic() - begun < 45


@pytest.mark.security
def test_no_password_of_a_uri_is_ever_told(front: Stub, server: LocalServer, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_search(server.storage, "canary", trials=1, points=1)
    front.act = lambda number, path: Act(gone=True)
    uris = [
        front.uri.replace("http://", "http://me:canary-7f3@"),
        "http://me:canary-7f3@127.0.0.1:1",
        "postgresql://me:canary-7f3@127.0.0.1:1/mlflow",
        "nonsense://me:canary-7f3@127.0.0.1",
    ]
    told = []
    for uri in uris:
        delivery_thread = DeliveryThread(folder, uri, "digits/mlp")
        delivery_thread.start()
        told.append(repr(delivery_thread.finish(0.5)))
        with pytest.raises(TrackingError) as caught:
            sync(folder, uri)
        told.append(str(caught.value))
    written = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    captured = capfd.readouterr()
    everything = "\n".join([*told, *written, captured.out, captured.err, *(str(path) for path in folder.rglob("*"))])
    assert "canary-7f3" not in everything
    assert "***@127.0.0.1" in everything


def ask(server: LocalServer, path: str, headers: dict[str, str], body: dict[str, str] | None = None) -> int:
    """The status of a GET, or of a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.uri + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.security
@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7:5000", "192.168.0.9", "127.0.0.1.evil.example"])
def test_a_browser_that_was_led_here_by_another_name_is_refused(server: LocalServer, host: str) -> None:
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert ask(server, path, {"Host": host}) == 403
    assert ask(server, path, {}) == 200


@pytest.mark.security
def test_a_page_of_another_site_can_change_nothing(server: LocalServer) -> None:
    path, body = "/api/2.0/mlflow/experiments/create", {"name": "planted"}
    assert ask(server, path, {"Origin": "http://evil.example"}, body) == 403
    assert ask(server, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=planted", {}) == 404
    assert ask(server, path, {"Origin": server.uri}, body) == 200


def test_a_database_that_is_away_is_found_at_once_and_keeps_no_other_search_waiting(server: LocalServer) -> None:
    """MLflow itself tries to open it for two minutes, and lets nobody else of the process in as long."""
    away, here = (make_search(server.storage, name, trials=1, points=1) for name in ("no-database", "beside-it"))
    delivery_thread = DeliveryThread(away, "postgresql://me@127.0.0.1:1/mlflow", "digits/mlp")
    delivery_thread.start()
    assert delivery_thread.finish(2).waiting > 0
    with pytest.raises(UnreachableError, match="the database does not answer"):
        connect("mysql://me@127.0.0.1:1/mlflow")
    delivery_thread = DeliveryThread(here, server.uri, "digits/mlp")
    delivery_thread.start()
    assert delivery_thread.finish(60).waiting == 0
