"""The client of an S3 service: one per process, with limited retries and time, and our own errors.

boto3 is imported where the first object is asked for. Credentials, region and endpoint are its own business (``AWS_…``
variables or ``~/.aws``), and are never in a name, a record or a message.

What is not there is a `FileNotFoundError`, as on a disk. What cannot be found out, since the service is away or refuses
it, is a `StorageError`: nobody may take it for what is not there.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.errors import StorageError

if TYPE_CHECKING:
    from prune_search.storage.object_paths import ObjectPath

SCHEME = "s3://"
# A call is tried so often, and waits so long for a connection and for each answer: in all under two minutes.
ATTEMPTS, CONNECT_S, READ_S = 4, 3.0, 20.0
# Above, a put is one request per part.
PART_BYTES = 64 * 2**20
CONFLICTS = 5

_ABSENT = ("404", "NoSuchKey", "NotFound")
_TAKEN = ("412", "PreconditionFailed")
_CONFLICT = ("409", "ConditionalRequestConflict")
_UNKNOWN_CONDITION = ("400", "501", "NotImplemented", "InvalidArgument", "InvalidRequest")
_CLIENT_MODULES = ("boto3", "s3transfer")

_log = logging.getLogger("prune_search")


class ConflictError(Exception):
    """Somebody else writes to the same place at this moment."""


class _Clients:
    """One client per process: a client does not outlive a fork, and threads may share it."""

    lock = threading.Lock()
    pid = 0
    client: Any = None


def client() -> Any:
    """boto3's client.

    Raises:
        UserError: boto3 is not installed.
        StorageError: it cannot be set up so.
    """
    with _Clients.lock:
        if _Clients.pid != os.getpid():
            try:
                import boto3
                from botocore.config import Config
                from botocore.exceptions import BotoCoreError
            except ImportError:
                text = "needs boto3, which is not installed: pip install 'prune-search[cluster]'"
                raise UserError([Problem("--storage", f"an {SCHEME} storage {text}")]) from None
            config = Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                # Services that are not Amazon's often lack these; every byte that counts has a sha256 of its own.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            try:
                _Clients.client = boto3.session.Session().client("s3", config=config)
            except (BotoCoreError, ValueError) as error:
                text = "cannot set up the object store client: check the AWS_… variables and ~/.aws"
                raise StorageError(f"{text} ({type(error).__name__})") from None
            _Clients.pid = os.getpid()
        return _Clients.client


def call(place: ObjectPath, operation: str, **arguments: Any) -> Mapping[str, Any]:
    """One call of the service on the bucket of a place."""
    service = client()
    with Translated(place):
        answer: Mapping[str, Any] = getattr(service, operation)(Bucket=place.bucket, **arguments)
        return answer


def read_object(place: ObjectPath, at_most: int) -> bytes:
    """See `ObjectPath.read_bytes`."""
    service = client()
    from botocore.exceptions import BotoCoreError

    for attempt in range(ATTEMPTS):
        with Translated(place):
            answer = service.get_object(Bucket=place.bucket, Key=place.key)
            size = int(answer["ContentLength"])
            if size > at_most:
                answer["Body"].close()
                raise ValueError(f"{place.name} is too large")
            try:
                data: bytes = answer["Body"].read()
                return data
            except BotoCoreError:
                # An answer that breaks off in the middle is not asked for again by the client itself.
                if attempt == ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


class Translated:
    """Whatever a call ends in, as `FileNotFoundError` or `StorageError` in one line."""

    def __init__(self, place: ObjectPath) -> None:
        self.place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        from botocore.exceptions import BotoCoreError, ClientError

        code = error_code(error)
        if code in _ABSENT:
            raise FileNotFoundError(str(self.place)) from None
        if isinstance(error, (BotoCoreError, ClientError)) or type(error).__module__.startswith(_CLIENT_MODULES):
            raise StorageError(f"{self.place.name or self.place}: {_reason(error, code)}") from None


def error_code(error: BaseException | None) -> str:
    """The service's word for what is wrong; empty where it did not answer."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _reason(error: BaseException, code: str) -> str:
    """Why, in our own words: the client's can hold the endpoint's address, and credentials in it."""
    name = type(error).__name__
    if code == "NoSuchBucket":
        return "the object store has no such bucket"
    if code:
        return f"the object store refused the request ({shown(code)})"
    if "Credentials" in name or "Profile" in name or "Token" in name:
        return f"no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({name})"
    return f"the object store cannot be reached ({name})"


def write_object(place: ObjectPath, data: bytes) -> None:
    """See `ObjectPath.write_bytes`; a large one is sent in parts, and there once all are."""
    if len(data) <= PART_BYTES:
        call(place, "put_object", Key=place.key, Body=data)
        return
    service = client()
    with Translated(place):
        service.upload_fileobj(io.BytesIO(data), place.bucket, place.key)


def create_object(place: ObjectPath, data: bytes) -> bool:
    """See `ObjectPath.create`."""
    if not conditions_hold(place.parent):
        if place.is_file():
            return False
        write_object(place, data)
        return True
    for attempt in range(CONFLICTS):
        try:
            return _created(place, data)
        except ConflictError:
            time.sleep(0.05 * 2**attempt)
    raise StorageError(f"{place.name} cannot be stored: others keep writing to the same place")


def _created(place: ObjectPath, data: bytes) -> bool:
    """One conditional put.

    Raises:
        ConflictError: another one is on its way.
    """
    from botocore.exceptions import ClientError

    service = client()
    with Translated(place):
        try:
            service.put_object(Bucket=place.bucket, Key=place.key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) in _CONFLICT:
                raise ConflictError from None
            if error_code(error) not in _TAKEN:
                raise
            again = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
            # The answer to an earlier try may have been lost: then what stands there is ours.
            return bool(again) and place.read_bytes() == data
        return True


class _Conditions:
    """Whether a bucket's service knows conditional writes, by bucket; asked once by each process."""

    lock = threading.Lock()
    known: dict[str, bool] = {}  # noqa: RUF012 - of the whole process


def conditions_hold(folder: ObjectPath) -> bool:
    """Whether a second conditional put of one object is refused; tried out on an object of its own."""
    with _Conditions.lock:
        if folder.bucket not in _Conditions.known:
            _Conditions.known[folder.bucket] = known = _probe(folder / f".tmp-{os.getpid()}-{secrets.token_hex(8)}")
            if not known:
                _log.warning(
                    "the object store of %s%s has no conditional writes (If-None-Match): where two begin the same "
                    "thing at once, both can do it; that is harmless, and costs time",
                    SCHEME,
                    folder.bucket,
                )
        return _Conditions.known[folder.bucket]


def _probe(place: ObjectPath) -> bool:
    from botocore.exceptions import ClientError

    service, codes = client(), []
    with Translated(place):
        for _ in range(2):
            try:
                service.put_object(Bucket=place.bucket, Key=place.key, Body=b"", IfNoneMatch="*")
                codes.append("")
            except ClientError as error:
                codes.append(error_code(error))
                if codes[-1] not in (*_TAKEN, *_UNKNOWN_CONDITION):
                    raise
    place.unlink(missing_ok=True)
    return codes[1] in _TAKEN
