"""Paths in an S3 object store, with the part of `pathlib.Path` that the library uses.

An object is there whole or not at all, and whoever reads it after it was written sees it. There are no folders: what
stands here for one is a prefix, so that it needs not be made and is there while it holds something. What is not there
is a `FileNotFoundError`, as on a disk; what cannot be found out is a `StorageError` (see `object_client`).
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.errors import StorageError
from prune_search.storage.object_client import (
    MAX_BYTES,
    SCHEME,
    call,
    create_object,
    is_object,
    read_object,
    write_object,
)

CACHED_BYTES, MAX_CACHED_BYTES = 64 * 2**10, 64 * 2**20
MAX_AT_ONCE = 1000

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9_.=+ -]{1,255}")


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
            text = "do not put credentials into the name: use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
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

    def is_absolute(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a prefix is there once it holds something."""

    def rmdir(self) -> None:
        """Nothing: a prefix that holds nothing is not there."""

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        if self.listed is not None:
            return not self.listed.prefix
        return is_object(self.bucket, self.key)

    def is_dir(self) -> bool:
        if self.listed is not None:
            return self.listed.prefix
        return bool(call(self.bucket, self.key, "list_objects_v2", Prefix=self._prefix, MaxKeys=1).get("KeyCount"))

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
        options |= {"Prefix": self._prefix, "MaxKeys": MAX_AT_ONCE}
        while True:
            page = call(self.bucket, self.key, "list_objects_v2", **options)
            yield page
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def read_bytes(self, at_most: int = MAX_BYTES) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is larger.
            StorageError: the service is away, or refuses it.
        """
        known = _cache.get(self)
        if known is None:
            known = read_object(self.bucket, self.key, at_most)
            _cache.put(self, known)
        if len(known) > at_most:
            raise ValueError(f"{self.name} is too large")
        return known

    def write_bytes(self, data: bytes) -> None:
        """Put an object there, whole; one that stood there is replaced.

        Raises:
            StorageError: it could not be stored.
        """
        write_object(self.bucket, self.key, data)

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
        return create_object(self.bucket, self.key, data)

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
        call(self.bucket, self.key, "delete_object", Key=self.key)

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
        for begin in range(0, len(keys), MAX_AT_ONCE):
            some = {"Objects": keys[begin : begin + MAX_AT_ONCE], "Quiet": True}
            errors = call(self.bucket, self.key, "delete_objects", Delete=some).get("Errors")
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
            while self._bytes > MAX_CACHED_BYTES:
                self._bytes -= len(self._known.popitem(last=False)[1])


_cache = _Cache()
