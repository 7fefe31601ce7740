"""Submits a search as a job to a Ray cluster, where it continues without the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.search.ray.runtime_env import runtime_env
from prune_search.search.ray.token import HOW, MODE, TOKEN, TOKEN_PATH, read_token
from prune_search.storage.files import one_line, put_file
from prune_search.storage.places import state_home

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "--address"
DASHBOARD_PORT = 8265
ANSWER_S = 10.0
INSTALL = "install it with pip install 'prune-search[cluster]'"
CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
NO_AGENT, YOUNG_S = "No available agent", 60.0
# Ray's word for how a job ended.
SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class JobToSend:
    """What is sent.

    Attributes:
        address: of the cluster's dashboard, ``http://HOST:8265``.
        words: after ``python -m prune_search``.
        folder: that is shipped and is the job's working directory; None ships none.
        environment: variables of the job.
    """

    address: str
    words: tuple[str, ...]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def entrypoint(self) -> str:
        """The command that the head runs."""
        return shlex.join(["python", "-m", "prune_search", *self.words])

    def runtime_env(self) -> dict[str, Any]:
        """What Ray unpacks on every node that works on the job: this package as it is here, and the user's code."""
        return runtime_env(self.folder, self.environment)

    def command(self) -> str:
        """The plain ``ray job submit`` that does the same."""
        # Of a token only where it is kept is shown.
        known = {name: os.environ[name] for name in (MODE, TOKEN_PATH) if name in os.environ}
        words = ["ray", "job", "submit", ADDRESS, self.address]
        words += ["--runtime-env-json", json.dumps(self.runtime_env()), "--", *shlex.split(self.entrypoint)]
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in known.items()), shlex.join(words)])


def staged(file: Path) -> Path:
    """A folder with a copy of one file, so that nothing is shipped but it. It stays, for the printed command.

    Ray's ``excludes`` would not do: they hold for this package's own files as well.

    Raises:
        StorageError: it cannot be written.
    """
    content = file.read_bytes()
    folder = state_home() / "submitted" / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    put_file(folder / file.name, content)
    return folder


def dashboard_address(text: str) -> str:
    """The address of the dashboard, which takes jobs, as ``http://HOST:PORT``.

    Raises:
        UserError: it is that of something else.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    host, _, port = rest.rstrip("/").rpartition(":")
    if scheme not in ("http", "https") or "@" in rest or "/" in rest.rstrip("/"):
        raise UserError(
            [
                Problem(
                    ADDRESS, f"must be http://HOST:{DASHBOARD_PORT}, the address of Ray's dashboard ({_hint(scheme)})"
                )
            ]
        )
    if not host or not port.isdecimal():
        host, port = rest.rstrip("/"), str(DASHBOARD_PORT)
    if not host:
        raise UserError([Problem(ADDRESS, f"has no host (got {shown(text)})")])
    return f"{scheme}://{host}:{port}"


def _hint(scheme: str) -> str:
    if scheme == "ray":
        return "ray:// is for prune-search launch"
    return "put a token into a file; see prune-search doctor"


class Cluster:
    """A Ray cluster's job service.

    Args:
        address: from `dashboard_address`.

    Raises:
        UserError: ray[default] is missing here, nobody answers there, or the token is missing or wrong.
    """

    def __init__(self, address: str) -> None:
        if _lacks_client():
            raise UserError([Problem("", f"submit needs ray[default]: {INSTALL}", "prune-search submit")])
        self.address = address
        token = read_token()
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        check_dashboard(address, self.headers)
        from ray.job_submission import JobSubmissionClient

        with _refusals(address):
            self.client: JobSubmissionClient = JobSubmissionClient(address, headers=dict(self.headers))

    def send(self, job: JobToSend) -> str:
        """Send a job; its id.

        Raises:
            UserError: Ray refuses it: what is shipped is too large, for example.
        """
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        until = time.monotonic() + YOUNG_S
        with _refusals(self.address):
            while True:
                try:
                    return str(self.client.submit_job(entrypoint=job.entrypoint, runtime_env=job.runtime_env()))
                except RuntimeError as error:
                    # A cluster that has just started answers before it can take jobs.
                    if NO_AGENT not in str(error) or time.monotonic() > until:
                        raise
                time.sleep(1.0)

    def follow(self, job: str, write: Callable[[str], None]) -> tuple[str, int | None]:
        """Pass a job's log on until the job ends.

        Returns:
            How it ended in Ray's word (SUCCEEDED, FAILED, STOPPED, or RUNNING where the log broke off), and its exit
            code where Ray knows it.
        """

        async def pass_on() -> None:
            async for text in self.client.tail_job_logs(job):
                write(text)

        with _refusals(self.address):
            asyncio.run(pass_on())
            details = self.client.get_job_info(job)
        return str(details.status.value), details.driver_exit_code


def _lacks_client() -> bool:
    return any(importlib.util.find_spec(name) is None for name in ("aiohttp", "requests", "pydantic"))


def check_dashboard(address: str, headers: Mapping[str, str]) -> str:
    """Ask a dashboard for its Ray's version.

    Raises:
        UserError: nobody answers, the token is missing or wrong, or it is no Ray.
    """
    request = urllib.request.Request(f"{address}/api/version", headers=dict(headers))  # noqa: S310 - http or https
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            return str(json.loads(answer.read(100_000))["ray_version"])
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError([Problem(ADDRESS, _refused(address, error.code))]) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", error)
        why = one_line(reason if isinstance(reason, BaseException) else error)
        raise UserError([Problem(ADDRESS, f"there is no Ray dashboard at {address}: {why}")]) from None


def _refused(address: str, code: int) -> str:
    if code == 401:
        return f"{address} requires a token: {HOW}"
    if code == 403:
        return f"{address} refuses the token in {_source()}, which belongs to another cluster: {HOW}"
    return f"{address} answers {code}; it is not a Ray dashboard"


def _source() -> str:
    return next((f"${name}" for name in (TOKEN, TOKEN_PATH) if os.environ.get(name)), "~/.ray/auth_token")


@contextlib.contextmanager
def _refusals(address: str) -> Iterator[None]:
    """What Ray's client raises, as one line."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError([Problem(ADDRESS, f"{address}: {one_line(error)}")]) from None


def sent(job: JobToSend, identity: str) -> Sequence[str]:
    """What to type next."""
    address = f"{ADDRESS} {job.address}"
    return (
        f"sent as {identity}; it continues without this terminal",
        f"its log   ray job logs {identity} --follow {address}",
        f"stop it   ray job stop {identity} {address}",
    )
