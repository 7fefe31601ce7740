"""An S3 service over HTTP on this machine (moto's), that can go away and come back with all it holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BUCKET = "studies"
KEY_ID, SECRET = "canary-key-id", "canary-secret-key"


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's word
        """Tests have no access log."""


class ObjectStore:
    """The service. Requests are answered one after another, so that a conditional write is atomic, as S3's is.

    Attributes:
        conditions: ``kept``, or how the service treats If-None-Match otherwise: ``ignored``, ``refused``.
        requests: method and path of all that it was asked.
    """

    def __init__(self) -> None:
        self.conditions = "kept"
        self.requests: list[str] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._one = threading.Lock()
        self._server: BaseWSGIServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def start(self) -> None:
        """Begin to listen; on the port that it had before."""
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=_Quiet)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Away for a while."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _answer(self, request: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        with self._one:
            self.requests.append(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}")
            if "HTTP_IF_NONE_MATCH" in request and self.conditions == "ignored":
                del request["HTTP_IF_NONE_MATCH"]
            if "HTTP_IF_NONE_MATCH" in request and self.conditions == "refused":
                begin("501 Not Implemented", [("Content-Type", "application/xml")])
                return [b"<Error><Code>NotImplemented</Code><Message>unknown header</Message></Error>"]
            return list(self._app(request, begin))
