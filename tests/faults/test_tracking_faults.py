"""MLflow away, slow, overloaded, broken, exposed: rows 5, 6, A4 and A6 of the fault table, on a real server."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from made_search import SPACE, Maker, make_definition, make_search
from real_mlflow import MLFLOW_WARNINGS, Kept, LocalServer, kept_runs, local_server

from prune_search.tracking.drain import Drain, TrackingError, sync
from prune_search.tracking.project import project, state_of
from prune_search.tracking.server import MlflowServer, connect
from prune_search.trial.records import Recorder, read_search

pytestmark = [pytest.mark.faults, MLFLOW_WARNINGS]

CREATE_RUN = "/api/2.0/mlflow/runs/create"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_search.tracking.drain.FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr("prune_search.tracking.drain.LOOK_EVERY_S", 0.3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@dataclass(frozen=True)
class Act:
    """What the stub does with a request.

    Attributes:
        wait_s: before anything else.
        status: answered instead of asking the server, or None.
        deaf: the server is asked, and its answer is dropped.
        gone: the connection is closed at once.
    """

    wait_s: float = 0.0
    status: int | None = None
    deaf: bool = False
    gone: bool = False


@dataclass
class Stub:
    """A server in front of the real one that answers as it is told.

    Attributes:
        upstream: port of the real server.
        uri: its own address.
        act: from (number of the request, its path) to what is done with it.
        seen: paths of all requests.
    """

    upstream: int
    uri: str = ""
    act: Callable[[int, str], Act] = lambda number, path: Act()
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Do with a request as it is told."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self.lock:
            self.seen.append(request.path)
            act = self.act(len(self.seen), request.path)
        time.sleep(act.wait_s)
        if act.gone:
            request.close_connection = True
            return
        if act.status is not None:
            self.answer(request, act.status, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"}', {})
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection")}
        upstream.request(request.command, request.path, body, {**headers, "Host": f"127.0.0.1:{self.upstream}"})
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if act.deaf:
            request.close_connection = True
            return
        self.answer(request, answer.status, content, {"Content-Type": answer.getheader("Content-Type", "")})

    @staticmethod
    def answer(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Send an answer."""
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def front(server: LocalServer) -> Iterator[Stub]:
    stub = Stub(server.port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stub.handle(self)

        do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *args: object) -> None:
            """Nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    stub.uri = f"http://127.0.0.1:{listener.server_address[1]}"
    yield stub
    listener.shutdown()
    listener.server_close()
    thread.join()


def kept(server: LocalServer, folder: Path) -> list[Kept]:
    from mlflow import MlflowClient

    definition = read_search(folder).definition
    return kept_runs(MlflowClient(server.uri), definition["experiment"], definition["id"])


def check(server: LocalServer, folder: Path) -> list[Kept]:
    """No run, no value twice; none missing; nothing left RUNNING."""
    search = read_search(folder)
    views = {view.key: view for view in project(search, state_of(search))}
    found = kept(server, folder)
    assert sorted(item.key for item in found) == sorted(views)
    for item in found:
        points = views[item.key].content.points
        assert sorted(item.rows) == sorted((point.name, point.step, point.time_ms, point.value) for point in points)
        assert item.status == views[item.key].status
        assert set(views[item.key].content.params.items()) <= set(item.run.data.params.items())
    assert "RUNNING" not in {item.status for item in found}
    return found


def search_of(server: LocalServer, name: str) -> tuple[Path, Maker]:
    """A search whose 4 trials are still to come."""
    folder = make_definition(server.storage, name, SPACE.replace("trials: 24", "trials: 4"))
    return folder, Maker(folder, SPACE, random.Random(name), points=50)


def run_trials(maker: Maker, seconds: float) -> None:
    """Four trials at once, each with 50 measurements of 4 metrics over so many seconds."""

    proposals = [maker.propose(number) for number in range(1, 5)]

    def run(recorder: Recorder, proposed: Mapping[str, Any]) -> None:
        metrics: dict[str, float] = {}
        for index in range(maker.points):
            metrics = maker.measure(recorder, index, 0.9)
            time.sleep(seconds / maker.points)
        maker.end(recorder, proposed, "completed", metrics, 0.9)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda proposal: run(*proposal), proposals))


def measured_values(found: list[Kept]) -> list[tuple[str, str, int]]:
    """(run, metric, step) of every row of the four metrics that are measured in a trial."""
    names = ("val/accuracy", "val/loss", "sparsity", "collapsed")
    trials = [item for item in found if item.key]
    return [(item.run.info.run_id, row[0], row[1]) for item in trials for row in item.rows if row[0] in names]


def threads_calling(uri: str, folder: Path) -> tuple[Drain, set[str]]:
    """A drain, and the names of the threads in which mlflow's client is called."""
    names: set[str] = set()

    class Counting:
        def __init__(self, client: object) -> None:
            self.client = client

        def __getattr__(self, name: str) -> object:
            names.add(threading.current_thread().name)
            return getattr(self.client, name)

    def connector(address: str) -> MlflowServer:
        server = connect(address)
        assert isinstance(server, MlflowServer)
        server.client = Counting(server.client)  # type: ignore[assignment]
        return server

    return Drain(folder, uri, read_search(folder).definition["experiment"], connector), names


def test_away_for_a_while_every_value_arrives_once(server: LocalServer, front: Stub) -> None:
    """4 trials x 50 measurements x 4 metrics; the server is away for the first half."""
    folder, maker = search_of(server, "away")
    back = time.monotonic() + 1.0
    front.act = lambda number, path: Act(gone=time.monotonic() < back)
    drain, threads = threads_calling(front.uri, folder)
    drain.start()
    run_trials(maker, 2.0)
    left = drain.finish(60)
    assert (left.waiting, left.reason) == (0, "")
    values = measured_values(check(server, folder))
    assert (len(values), len(set(values))) == (800, 800)
    assert threads == {"tracking"}


@pytest.mark.slow
def test_a_server_that_was_killed_and_is_back_after_20_seconds_gets_every_value_once(tmp_path: Path) -> None:
    with local_server(tmp_path) as own:
        folder, maker = search_of(own, "killed")
        drain, threads = threads_calling(own.uri, folder)
        drain.start()
        with ThreadPoolExecutor(1) as pool:
            trials = pool.submit(run_trials, maker, 30.0)
            time.sleep(5)
            own.stop()
            time.sleep(20)
            own.start()
            trials.result()
        assert drain.finish(120).waiting == 0
        values = measured_values(check(own, folder))
        assert (len(values), len(set(values))) == (800, 800)
        assert threads == {"tracking"}


def test_away_for_ever_costs_the_search_no_time_and_sync_delivers_later(server: LocalServer, front: Stub) -> None:
    folder, maker = search_of(server, "for-ever")
    front.act = lambda number, path: Act(gone=True)
    drain = Drain(folder, front.uri, "digits/mlp")
    drain.start()
    run_trials(maker, 1.0)
    begun = time.monotonic()
    left = drain.finish(1.0)
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
    drain = Drain(folder, front.uri, "digits/mlp")
    drain.start()
    assert drain.finish(60).waiting == 0
    assert len(lost) >= 2
    assert len(check(server, folder)) == 4
    assert front.seen.count(CREATE_RUN) == 4


@pytest.mark.slow
def test_answers_lost_at_random_leave_nothing_twice(server: LocalServer, front: Stub) -> None:
    folder = make_search(server.storage, "at-random", trials=3, points=3)
    rng = random.Random(5)
    front.act = lambda number, path: Act(deaf=rng.random() < 0.2, gone=rng.random() < 0.1)
    drain = Drain(folder, front.uri, "digits/mlp")
    drain.start()
    assert drain.finish(120).waiting == 0
    check(server, folder)


@pytest.mark.parametrize("status", [429, 500])
def test_an_overloaded_or_broken_server_loses_nothing(server: LocalServer, front: Stub, status: int) -> None:
    folder = make_search(server.storage, f"status-{status}", trials=2, points=2)
    front.act = lambda number, path: Act(status=status if number % 6 == 3 else None)
    drain = Drain(folder, front.uri, "digits/mlp")
    drain.start()
    assert drain.finish(60).waiting == 0
    check(server, folder)


@pytest.mark.slow
def test_a_slow_server_gets_everything_and_keeps_nobody_waiting(server: LocalServer, front: Stub) -> None:
    """Half a second a call stands for five."""
    folder, maker = search_of(server, "slow")
    front.act = lambda number, path: Act(wait_s=0.5)
    drain, threads = threads_calling(front.uri, folder)
    drain.start()
    begun = time.monotonic()
    run_trials(maker, 2.0)
    taken = time.monotonic() - begun
    assert drain.finish(60).waiting == 0
    values = measured_values(check(server, folder))
    assert (len(values), len(set(values))) == (800, 800)
    # 800 values came in few calls, none of which a trial waited for.
    assert len(front.seen) * 0.5 < taken + 60
    assert len(front.seen) < 100
    assert threads == {"tracking"}


def test_a_process_ends_at_once_though_its_mlflow_hangs(server: LocalServer, front: Stub) -> None:
    folder = make_search(server.storage, "hangs", trials=1, points=1)
    front.act = lambda number, path: Act(wait_s=120.0)
    code = (
        "import sys; from pathlib import Path; from prune_search.tracking.drain import Drain\n"
        "drain = Drain(Path(sys.argv[1]), sys.argv[2], 'digits/mlp'); drain.start()\n"
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
        drain = Drain(folder, uri, "digits/mlp")
        drain.start()
        told.append(repr(drain.finish(0.5)))
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
