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
from typing import Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.errors import StorageError

SCHEME = "s3://"
MAX_BYTES = 2**30
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


def call(bucket: str, key: str, operation: str, **arguments: Any) -> Mapping[str, Any]:
    """One call of the service.

    Args:
        bucket: name of the bucket.
        key: of the object or the prefix that it is about, which an error names.
        operation: boto3's name for it.
        arguments: its own, but for the bucket.
    """
    service = client()
    with Translated(bucket, key):
        answer: Mapping[str, Any] = getattr(service, operation)(Bucket=bucket, **arguments)
        return answer


def is_object(bucket: str, key: str) -> bool:
    """Whether there is an object."""
    try:
        call(bucket, key, "head_object", Key=key)
    except FileNotFoundError:
        return False
    return True


def read_object(bucket: str, key: str, at_most: int = MAX_BYTES) -> bytes:
    """The content of an object (see `ObjectPath.read_bytes`)."""
    service = client()
    from botocore.exceptions import BotoCoreError

    for attempt in range(ATTEMPTS):
        with Translated(bucket, key):
            answer = service.get_object(Bucket=bucket, Key=key)
            size = int(answer["ContentLength"])
            if size > at_most:
                answer["Body"].close()
                raise ValueError(f"{_name(key)} is too large")
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

    def __init__(self, bucket: str, key: str) -> None:
        self.place = f"{SCHEME}{bucket}/{key}"
        self.name = _name(key) or f"{SCHEME}{bucket}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        from botocore.exceptions import BotoCoreError, ClientError

        code = error_code(error)
        if code in _ABSENT:
            raise FileNotFoundError(self.place) from None
        if isinstance(error, (BotoCoreError, ClientError)) or type(error).__module__.startswith(_CLIENT_MODULES):
            raise StorageError(f"{self.name}: {_reason(error, code)}") from None


def _name(key: str) -> str:
    return key.rpartition("/")[2]


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


def write_object(bucket: str, key: str, data: bytes) -> None:
    """Put an object there, whole; a large one is sent in parts, and there once all are."""
    if len(data) <= PART_BYTES:
        call(bucket, key, "put_object", Key=key, Body=data)
        return
    service = client()
    with Translated(bucket, key):
        service.upload_fileobj(io.BytesIO(data), bucket, key)


def create_object(bucket: str, key: str, data: bytes) -> bool:
    """Put an object there unless there is one (see `ObjectPath.create`)."""
    if not conditions_hold(bucket, key.rpartition("/")[0]):
        if is_object(bucket, key):
            return False
        write_object(bucket, key, data)
        return True
    for attempt in range(CONFLICTS):
        try:
            return _created(bucket, key, data)
        except ConflictError:
            time.sleep(0.05 * 2**attempt)
    raise StorageError(f"{_name(key)} cannot be stored: others keep writing to the same place")


def _created(bucket: str, key: str, data: bytes) -> bool:
    """One conditional put.

    Raises:
        ConflictError: another one is on its way.
    """
    from botocore.exceptions import ClientError

    service = client()
    with Translated(bucket, key):
        try:
            service.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) in _CONFLICT:
                raise ConflictError from None
            if error_code(error) not in _TAKEN:
                raise
            again = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
            # The answer to an earlier try may have been lost: then what stands there is ours.
            return bool(again) and read_object(bucket, key) == data
        return True


class _Conditions:
    """Whether a bucket's service knows conditional writes, by bucket; asked once by each process."""

    lock = threading.Lock()
    known: dict[str, bool] = {}  # noqa: RUF012 - of the whole process


def conditions_hold(bucket: str, prefix: str) -> bool:
    """Whether a second conditional put of one object is refused; tried out on an object of its own below a prefix."""
    with _Conditions.lock:
        if bucket not in _Conditions.known:
            name = f".tmp-{os.getpid()}-{secrets.token_hex(8)}"
            _Conditions.known[bucket] = known = _probe(bucket, f"{prefix}/{name}" if prefix else name)
            if not known:
                _log.warning(
                    "the object store of %s%s has no conditional writes (If-None-Match): two workers that "
                    "start the same work at once may both do it, which costs time but is harmless",
                    SCHEME,
                    bucket,
                )
        return _Conditions.known[bucket]


def _probe(bucket: str, key: str) -> bool:
    from botocore.exceptions import ClientError

    service, codes = client(), []
    with Translated(bucket, key):
        for _ in range(2):
            try:
                service.put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
                codes.append("")
            except ClientError as error:
                codes.append(error_code(error))
                if codes[-1] not in (*_TAKEN, *_UNKNOWN_CONDITION):
                    raise
    call(bucket, key, "delete_object", Key=key)
    return codes[1] in _TAKEN
