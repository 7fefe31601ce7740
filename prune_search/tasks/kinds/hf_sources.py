"""Loads data sets with Hugging Face's `datasets`, and finds their splits and columns."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_search.recipe.problems import Problem, UserError, shown, suggestion
from prune_search.tasks.kinds.packages import package
from prune_search.tasks.kinds.paths import few, files_digest, local, looked_up, wrong
from prune_search.tasks.raised import as_user_error

KEY = "task.data"
# What the parts are called where a recipe does not say, the first that is there.
USUAL: Mapping[str, tuple[str, ...]] = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True, eq=False)
class Source:
    """The parts of a data set as the library has them.

    Attributes:
        parts: ``train`` and perhaps ``validation`` and ``test``: data sets of the library, or streams.
        digest: of their content, as the library knows it; of a local folder by its files.
        features: the columns, by name.
    """

    parts: Mapping[str, Any]
    digest: str
    features: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a recipe asks for.

    Attributes:
        name: a folder, or a name that the library looks up.
        splits: the library's split for ``train``, ``validation`` and ``test``; None: the usual one, where it is there.
        subset: of a data set that has several.
        revision: of a data set that is looked up.
        streaming: whether it is read from the start to the end, and never whole.
    """

    name: str
    splits: Mapping[str, str | None]
    subset: str | None = None
    revision: str | None = None
    streaming: bool = False


def load(wanted: Wanted, root: Path | None) -> Source:
    """The parts of a data set.

    Args:
        wanted: what the recipe asks for.
        root: the folder of --data-root, or None.

    Raises:
        UserError: the package is missing, it cannot be loaded, or it has no such splits.
    """
    who = f"hf-dataset/{wanted.name}"
    library = package("datasets", who, KEY)
    place = local(wanted.name, root, KEY)
    prefix = "" if place is not None else looked_up(wanted.name, root)
    if place is not None and not place.is_dir():
        raise wrong(KEY, f"{place} is a file: name the folder that it lies in")
    with _quiet(library):
        with as_user_error(f"{prefix}{who} cannot be loaded:", KEY):
            splits = _loaded(library, wanted, place)
        if not isinstance(splits, Mapping):
            splits = {"train": splits}
        parts = _parts(splits, wanted, who)
    features = parts["train"].features
    if features is None:
        raise wrong(KEY, f"{who} does not say what its columns are: store it with features")
    return Source(parts, _digest(parts, wanted, place), dict(features))


def _loaded(library: Any, wanted: Wanted, place: Path | None) -> Any:
    saved = place is not None and any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if saved:
        splits = library.load_from_disk(str(place))
        splits = splits if isinstance(splits, Mapping) else {"train": splits}
        return {name: part.to_iterable_dataset() if wanted.streaming else part for name, part in splits.items()}
    given = {"name": wanted.subset, "streaming": wanted.streaming}
    return library.load_dataset(str(place or wanted.name), revision=None if place else wanted.revision, **given)


def _parts(splits: Mapping[str, Any], wanted: Wanted, who: str) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    problems = []
    for part, name in wanted.splits.items():
        if name is None:
            name = next((usual for usual in USUAL.get(part, ()) if usual in splits), None)
        if name is not None and name in splits:
            parts[part] = splits[name]
        elif name is not None:
            text = f"{who} has no split {shown(name)}{suggestion(name, splits)}; it has {few(splits)}"
            problems.append(Problem(f"{KEY}.{part}", text))
    if wanted.streaming and "validation" not in parts and not problems:
        text = f"is missing: no share of a stream can be held out, and {who} has {few(splits)} only"
        problems.append(Problem(f"{KEY}.validation", text))
    if problems:
        raise UserError(problems)
    return parts


def _digest(parts: Mapping[str, Any], wanted: Wanted, place: Path | None) -> str:
    """What stands for the content in keys.

    Of a folder: its files by name, size and a sample of bytes. Of what is looked up: the library's fingerprints, or of
    a stream, which has none, its name and revision.
    """
    if place is not None:
        found = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("cache-"))
        return files_digest([(path.relative_to(place).as_posix(), path) for path in found], sorted(parts))
    told = {part: getattr(data, "_fingerprint", None) for part, data in parts.items()}
    return files_digest([], (wanted.name, wanted.subset, wanted.revision, sorted(told.items())))


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's progress bars."""
    shown_before = library.utils.are_progress_bars_disabled()
    library.utils.disable_progress_bars()
    try:
        yield
    finally:
        if not shown_before and os.environ.get("HF_DATASETS_DISABLE_PROGRESS_BARS") != "1":
            library.utils.enable_progress_bars()
