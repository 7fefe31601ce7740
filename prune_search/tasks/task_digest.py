"""The digest of a task's data for keys: of all bytes in memory, else of parts, and it says which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prune_search.tasks.data import ALL_BYTES
from prune_search.tasks.digest import ordered_parts_digest
from prune_search.tasks.examples import Asked, Examples, Held, Listed, ReadBatches
from prune_search.tasks.kinds.paths import files_digest
from prune_search.tasks.sources import captured, described, source
from prune_search.tasks.stored_split import parts_of

SAMPLED = 256


def examples_digest(split: Examples, given: str | None) -> tuple[str, str]:
    """The sha256 (hex) of a split's examples, and what was looked at.

    Args:
        split: of a task.
        given: ``Task.digest``.
    """
    if given is not None:
        # Which examples are held out is not in a digest that somebody gives for all.
        return _sha(["given", given, *_indices(split)]), "as the task gives it"
    if isinstance(split, Held):
        named = ((f"tensor {number}", *part) for number, part in enumerate(_parts(split.content, split.rows)))
        return ordered_parts_digest(named), ALL_BYTES
    dataset = getattr(split, "dataset", None)
    fingerprint = getattr(dataset, "_fingerprint", None)
    if isinstance(fingerprint, str):
        return _sha(["fingerprint", fingerprint, *_indices(split)]), "the fingerprint of Hugging Face's datasets"
    if isinstance(split, Listed):
        files = _files(dataset)
        if files:
            base = os.path.commonpath([path.parent for path, _ in files])
            listed = [(os.path.relpath(path, base), path) for path, _ in files]
            known = files_digest(listed, [label for _, label in files])
            return _sha([known, *_indices(split)]), f"names and sizes of {len(files)} files, bytes of some"
        return _sampled(split)
    return _sha(
        ["stream", described(vars(dataset) if hasattr(dataset, "__dict__") else None), source(type(dataset))]
    ), ("the settings of the stream, none of its examples: set Task.digest to tell data apart")


def code_digest(functions: Mapping[str, Callable[..., Any] | str | None]) -> str:
    """The sha256 (hex) of functions: the text of their files, and the settings that they carry."""
    parts = []
    for name, function in functions.items():
        if callable(function):
            parts += [name, source(function), captured(function)]
        elif function is not None:
            parts += [name, function]
    return _sha(parts)


def _sha(parts: list[str]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(f"{len(part)}\n{part}\n".encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def _indices(split: Examples) -> list[str]:
    """The places of the examples that belong to a split, where these are not all."""
    if isinstance(split, Held):
        return [] if split.rows is None else [repr(split.rows.tolist())]
    indices = getattr(split, "indices", None)
    return [] if indices is None else [repr(list(indices))]


def _parts(content: Any, rows: Tensor | None) -> Iterator[tuple[torch.dtype, tuple[int, ...], Iterable[Tensor]]]:
    """Type, shape and parts of the tensors in a batch, or of some of its examples, and of the names they have."""
    if isinstance(content, Tensor):
        count = len(content if rows is None else rows)
        yield content.dtype, (count, *content.shape[1:]), parts_of(content, rows)
    elif isinstance(content, Mapping):
        for key in sorted(content, key=str):
            # The name counts: which input is which.
            name = torch.frombuffer(bytearray(str(key).encode() or b"\0"), dtype=torch.uint8)
            yield name.dtype, tuple(name.shape), (name,)
            yield from _parts(content[key], rows)
    elif isinstance(content, tuple | list):
        for part in content:
            yield from _parts(part, rows)


def _files(dataset: Any) -> list[tuple[Path, str]]:
    """The files that a data set lists, as torchvision's folders do: of (path, class) pairs or of paths."""
    for name in ("samples", "imgs", "files", "paths"):
        found = getattr(dataset, name, None)
        if isinstance(found, list) and found:
            paths = [item[0] if isinstance(item, tuple | list) else item for item in found]
            labels = [repr(item[1:]) if isinstance(item, tuple | list) else "" for item in found]
            if all(isinstance(path, str | Path) and os.path.isfile(path) for path in paths[:3]):
                return [(Path(path), label) for path, label in zip(paths, labels, strict=True)]
    return []


def _sampled(split: Listed) -> tuple[str, str]:
    count = len(split)
    places = sorted({round(number * (count - 1) / max(1, SAMPLED - 1)) for number in range(SAMPLED)}) if count else []
    read = ReadBatches(split.dataset, lambda examples: examples)
    parts = [f"{count} examples", *_indices(split)]
    parts += [described(read[Asked([split.at(place)], 0)][0]) for place in places]
    whole = len(places) == count
    return _sha(parts), f"all {count} examples" if whole else f"{len(places)} of {count} examples, at even distances"
