"""What tests of delivery to MLflow share.

A stub in front of the real server, searches whose trials are written meanwhile, and what must be there in the end.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from made_search import SPACE, Maker, make_definition
from real_mlflow import Kept, LocalServer, kept_runs

from prune_search.ledger.records import Recorder, read_search
from prune_search.ledger.state import state_of
from prune_search.storage.places import StoragePath
from prune_search.tracking.delivery_thread import DeliveryThread
from prune_search.tracking.project import project
from prune_search.tracking.server import MlflowServer, connect


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


@contextlib.contextmanager
def in_front_of(server: LocalServer) -> Iterator[Stub]:
    """A stub while the block runs."""
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
    try:
        yield stub
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def kept(server: LocalServer, folder: StoragePath) -> list[Kept]:
    from mlflow import MlflowClient

    definition = read_search(folder).definition
    return kept_runs(MlflowClient(server.uri), definition["experiment"], definition["id"])


def check(server: LocalServer, folder: StoragePath) -> list[Kept]:
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


def threads_calling(uri: str, folder: Path) -> tuple[DeliveryThread, set[str]]:
    """A delivery thread, and the names of the threads in which mlflow's client is called."""
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

    return DeliveryThread(folder, uri, read_search(folder).definition["experiment"], connector), names
