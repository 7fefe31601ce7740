"""Reads small JSON files of a storage, with a size limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import open_regular
from prune_search.storage.places import StoragePath

MAX_BYTES = 16 * 2**20


LEASE_FILE = "lease.json"


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON object for people to read: indented, keys in order, no NaN, a line break at the end."""
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def read_json(path: StoragePath) -> dict[str, Any]:
    """A JSON object from a regular file.

    Raises:
        UserError: it is missing, a link, too large, or no JSON object.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError([Problem("", "is missing or does not contain a JSON object", str(path))])
    return content
