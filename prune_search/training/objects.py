"""Places in an S3 object store, with the part of `pathlib.Path` that the library uses.

An object is there whole or not at all, and whoever reads it after it was written sees it. There are no folders: what
stands here for one is a prefix, so that it needs not be made and is there while it holds something. boto3 is imported
where the first object is asked for; credentials, region and endpoint are its own business (``AWS_…`` variables or
``~/.aws``), and are never in a name, a record or a message.

What is not there is a `FileNotFoundError`, as on a disk. What cannot be found out, since the service is away or refuses
it, is a `StorageError`: nobody may take it for what is not there.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.training.storage_error import StorageError

SCHEME = "s3://"
# A call is tried so often, and waits so long for a connection and for each answer: in all under two minutes.
ATTEMPTS, CONNECT_S, READ_S = 4, 3.0, 20.0
MOST_BYTES = 2**30
# Above, a put is one request per part.
PART_BYTES = 64 * 2**20
CACHED_BYTES, MOST_CACHED_BYTES = 64 * 2**10, 64 * 2**20
MOST_AT_ONCE = 1000
CONFLICTS = 5

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9_.=+ -]{1,255}")
_ABSENT = ("404", "NoSuchKey", "NotFound")
_TAKEN = ("412", "PreconditionFailed")
_CONFLICT = ("409", "ConditionalRequestConflict")
_UNKNOWN_CONDITION = ("400", "501", "NotImplemented", "InvalidArgument", "InvalidRequest")

_log = logging.getLogger("prune_search")
_CLIENT_MODULES = ("boto3", "s3transfer")


@dataclass(frozen=True, order=True)
class ObjectPath:
    """A place in a bucket: an object, or the prefix of several.

    Attributes:
        bucket: its name.
        key: without a slash at its ends; empty for the whole bucket.
        listed: what the listing told in which it was found; None where it comes from nowhere.
    """

    bucket: str
    key: str = ""
    listed: Listed | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> ObjectPath:
        """The place that ``s3://bucket/prefix`` names.

        Raises:
            UserError: it is none; credentials in it are refused, and not repeated.
        """
        rest = url.removeprefix(SCHEME)
        if "@" in rest:
            text = "credentials do not belong into a name: put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise UserError([Problem("--storage", f"{SCHEME}…@{shown(rest.rpartition('@')[2])}: {text}")])
        bucket, _, key = rest.partition("/")
        parts = [part for part in key.split("/") if part]
        if not _BUCKET.fullmatch(bucket) or any(not _PART.fullmatch(p) or p in (".", "..") for p in parts):
            raise UserError(
                [Problem("--storage", f"must be {SCHEME}BUCKET/PREFIX of plain letters (got {shown(url)})")]
            )
        return cls(bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> ObjectPath:
        if not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"{shown(name)} leads out of {self}")
        return ObjectPath(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def absolute(self) -> ObjectPath:
        return self

    def is_symlink(self) -> bool:
        return False

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a prefix is there once it holds something."""

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        if self.listed is not None:
            return not self.listed.prefix
        try:
            _call(self, "head_object", Key=self.key)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        if self.listed is not None:
            return self.listed.prefix
        return bool(_call(self, "list_objects_v2", Prefix=self._prefix, MaxKeys=1).get("KeyCount"))

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def iterdir(self) -> Iterator[ObjectPath]:
        """What lies directly in a prefix."""
        for page in self._pages(Delimiter="/"):
            for entry in page.get("CommonPrefixes", ()):
                yield ObjectPath(self.bucket, entry["Prefix"].rstrip("/"), Listed(prefix=True))
            for entry in page.get("Contents", ()):
                if entry["Key"] != self._prefix:
                    yield ObjectPath(self.bucket, entry["Key"], Listed.of(entry))

    def walk(self) -> Iterator[ObjectPath]:
        """Every object below a prefix, with what the listing tells of it."""
        for page in self._pages():
            for entry in page.get("Contents", ()):
                yield ObjectPath(self.bucket, entry["Key"], Listed.of(entry))

    def _pages(self, **options: Any) -> Iterator[Mapping[str, Any]]:
        following: dict[str, Any] = {}
        while True:
            page = _call(self, "list_objects_v2", Prefix=self._prefix, MaxKeys=MOST_AT_ONCE, **options, **following)
            yield page
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def read_bytes(self, at_most: int = MOST_BYTES) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is larger.
            StorageError: the service is away, or refuses it.
        """
        known = _cache.get(self)
        if known is None:
            known = _read(self, at_most)
            _cache.put(self, known)
        if len(known) > at_most:
            raise ValueError(f"{self.name} is too large")
        return known

    def write_bytes(self, data: bytes) -> None:
        """Put an object there, whole; one that stood there is replaced.

        Raises:
            StorageError: it could not be stored.
        """
        if len(data) <= PART_BYTES:
            _call(self, "put_object", Key=self.key, Body=data)
            return
        with _translated(self):
            _client().upload_fileobj(io.BytesIO(data), self.bucket, self.key)

    def create(self, data: bytes) -> bool:
        """Put an object there unless there is one; of several that try at once, exactly one succeeds.

        A service without conditional writes (If-None-Match) is found out, and said once; there two can succeed.

        Args:
            data: content that nobody else writes, such as a token: a call whose answer was lost is known by it.

        Returns:
            Whether this call made it.

        Raises:
            StorageError: it could not be stored.
        """
        if not _conditions_hold(self.parent):
            if self.is_file():
                return False
            self.write_bytes(data)
            return True
        for attempt in range(CONFLICTS):
            try:
                return _created(self, data)
            except _ConflictError:
                time.sleep(0.05 * 2**attempt)
        raise StorageError(f"{self.name} cannot be stored: others keep writing to the same place")

    def touch(self) -> None:
        """Put an empty object there."""
        self.write_bytes(b"")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove an object.

        Raises:
            FileNotFoundError: there is none, and that is not allowed.
            StorageError: it could not be removed.
        """
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(str(self))
        _call(self, "delete_object", Key=self.key)

    def remove_tree(self, first: str = "") -> None:
        """Remove all objects below a prefix.

        Args:
            first: name of the object without which the others are nothing: it goes before them.

        Raises:
            StorageError: something could not be removed.
        """
        if first:
            (self / first).unlink(missing_ok=True)
        keys = [{"Key": path.key} for path in self.walk()]
        for begin in range(0, len(keys), MOST_AT_ONCE):
            some = {"Objects": keys[begin : begin + MOST_AT_ONCE], "Quiet": True}
            errors = _call(self, "delete_objects", Delete=some).get("Errors")
            if errors:
                raise StorageError(f"{self.name} cannot be removed: {shown(errors[0].get('Code'))}")


@dataclass(frozen=True)
class Listed:
    """What a listing tells of a place.

    Attributes:
        prefix: whether it is a prefix, and no object.
        size: bytes.
        changed: seconds since the epoch, when it was written.
        etag: differs where the content does.
    """

    prefix: bool = False
    size: int = 0
    changed: float = 0.0
    etag: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Listed:
        """From the service's own words."""
        return cls(False, int(entry["Size"]), entry["LastModified"].timestamp(), str(entry.get("ETag", "")))


def content_name(name: str, sha256: str) -> str:
    """Where a file of a committed folder lies: ``state.safetensors`` of a digest is ``state.<sha256>.safetensors``.

    So no writer changes a file under the manifest of another.
    """
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.{sha256}.{ending}" if dot else f"{name}.{sha256}"


def put_objects(folder: ObjectPath, files: Mapping[str, bytes], valid: Callable[[ObjectPath], bool]) -> None:
    """Store a folder that counts from the moment on at which its last file, the manifest, is there.

    The first valid one stays.

    Args:
        folder: where.
        files: name to content, the manifest last; it names the digests of the others, under which they lie.
        valid: whether what stands there is complete and unaltered.

    Raises:
        StorageError: it could not be stored; what stood there before still does, and nothing partial counts.
    """
    *others, manifest = files
    for name in others:
        (folder / content_name(name, hashlib.sha256(files[name]).hexdigest())).write_bytes(files[name])
    if not (folder / manifest).create(files[manifest]) and not valid(folder):
        (folder / manifest).write_bytes(files[manifest])


# --- the service ------------------------------------------------------------------------------------------------------


class _ConflictError(Exception):
    """Somebody else writes to the same place at this moment."""


class _Clients:
    """One client per process: a client does not outlive a fork, and threads may share it."""

    lock = threading.Lock()
    pid = 0
    client: Any = None


def _client() -> Any:
    with _Clients.lock:
        if _Clients.pid != os.getpid():
            try:
                import boto3
                from botocore.config import Config
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
            with _translated(ObjectPath("")):
                _Clients.client = boto3.session.Session().client("s3", config=config)
            _Clients.pid = os.getpid()
        return _Clients.client


def _call(place: ObjectPath, operation: str, **arguments: Any) -> Mapping[str, Any]:
    client = _client()
    with _translated(place):
        answer: Mapping[str, Any] = getattr(client, operation)(Bucket=place.bucket, **arguments)
        return answer


def _read(place: ObjectPath, at_most: int) -> bytes:
    client = _client()
    from botocore.exceptions import BotoCoreError

    for attempt in range(ATTEMPTS):
        with _translated(place):
            answer = client.get_object(Bucket=place.bucket, Key=place.key)
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


class _translated:
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
        return f"the object store refuses it ({shown(code)})"
    if "Credentials" in name or "Profile" in name or "Token" in name:
        return f"no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY ({name})"
    return f"the object store cannot be reached ({name})"


def _created(place: ObjectPath, data: bytes) -> bool:
    """One conditional put.

    Raises:
        _ConflictError: another one is on its way.
    """
    from botocore.exceptions import ClientError

    client = _client()
    with _translated(place):
        try:
            client.put_object(Bucket=place.bucket, Key=place.key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error_code(error) in _CONFLICT:
                raise _ConflictError from None
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


def _conditions_hold(folder: ObjectPath) -> bool:
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

    client, codes = _client(), []
    with _translated(place):
        for _ in range(2):
            try:
                client.put_object(Bucket=place.bucket, Key=place.key, Body=b"", IfNoneMatch="*")
                codes.append("")
            except ClientError as error:
                codes.append(error_code(error))
                if codes[-1] not in (*_TAKEN, *_UNKNOWN_CONDITION):
                    raise
    place.unlink(missing_ok=True)
    return codes[0] == "" and codes[1] in _TAKEN


class _Cache:
    """Small objects that were found in a listing, by their etag: the records of a search are read again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[ObjectPath, str], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, place: ObjectPath) -> bytes | None:
        """The content, where it is known for the etag that the listing told."""
        if place.listed is None or not place.listed.etag:
            return None
        with self._lock:
            return self._known.get((place, place.listed.etag))

    def put(self, place: ObjectPath, data: bytes) -> None:
        """Keep a small one; the oldest go."""
        if place.listed is None or not place.listed.etag or not len(data) == place.listed.size <= CACHED_BYTES:
            return
        with self._lock:
            if self._known.setdefault((place, place.listed.etag), data) is data:
                self._bytes += len(data)
            while self._bytes > MOST_CACHED_BYTES:
                self._bytes -= len(self._known.popitem(last=False)[1])


_cache = _Cache()
