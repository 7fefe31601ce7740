"""Presets, options and ``--set``: from what was written to whole blocks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.schema import BLOCKS

# Keys of one mapping that exclude each other: what is written displaces what was inherited.
ALTERNATIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrain": (("steps", "until"), ("schedule", "clock")),
    "mask.sparsity": (("final", "per_round", "by", "layers"),),
    "mask.score": (("batches", "per_class"),),
}

MOST_OPTIONS = 1000


def _displaced(path: str, key: str) -> set[str]:
    return {other for group in ALTERNATIVES.get(path, ()) if key in group for other in group if other != key}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: blocks are merged one level deep, and the keys of `over` win whole."""
    result = dict(base)
    for name, block in over.items():
        below = result.get(name)
        if name in BLOCKS and isinstance(block, Mapping) and isinstance(below, Mapping) and not _whole(block, below):
            gone = {other for key in block for other in _displaced(name, key)}
            result[name] = {**{key: value for key, value in below.items() if key not in gone}, **block}
        else:
            result[name] = block
    return result


def _whole(*blocks: Mapping[str, Any]) -> bool:
    return any("hole" in block for block in blocks)


@dataclass(frozen=True)
class Written:
    """A file (or preset) with its presets and options resolved, holes still in it.

    Attributes:
        options: (label, blocks) of each option of ``any``; one option with an empty label where there is no ``any``.
        search: the search block as written, or None.
        preset: the name of the preset that the user typed, or None.
    """

    options: tuple[tuple[str, dict[str, Any]], ...]
    search: Any = None
    preset: str | None = None


def expand(raw: Mapping[str, Any]) -> Written:
    """Resolve ``preset`` and ``any`` away.

    Raises:
        UserError: an unknown preset, or an ``any`` that is no list of mappings of top-level blocks.
    """
    problems: list[Problem] = []
    rest = {key: copy.deepcopy(value) for key, value in raw.items() if key not in ("any", "search")}
    options = _options(raw, rest, problems)
    expanded = []
    for path, label, option in options:
        merged = merge(rest, option)
        name = merged.pop("preset", None)
        if name is not None:
            merged = merge(_preset(name, f"{path}.preset" if path and "preset" in option else "preset", problems), merged)
        expanded.append((label, merged))
    if problems:
        raise UserError(problems)
    typed = rest.get("preset") if isinstance(rest.get("preset"), str) else None
    return Written(tuple(expanded), copy.deepcopy(raw.get("search")), typed)


def _preset(name: Any, path: str, problems: list[Problem]) -> dict[str, Any]:
    if isinstance(name, str) and name in PRESETS:
        blocks: dict[str, Any] = copy.deepcopy(PRESETS[name].make())
        return blocks
    problems.append(Problem(path, not_one_of(name, PRESETS)))
    return {}


def _options(
    raw: Mapping[str, Any], rest: dict[str, Any], problems: list[Problem]
) -> list[tuple[str, str, dict[str, Any]]]:
    """(path, label, blocks) of each option."""
    if "any" not in raw:
        return [("", "", {})]
    given = raw["any"]
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_OPTIONS:
        problems.append(Problem("any", f"must be a list of 1 to {MOST_OPTIONS} options (got {shown(given)})"))
        return []
    options: list[tuple[str, str, dict[str, Any]]] = []
    labels: dict[str, int] = {}
    for index, option in enumerate(given):
        path = f"any.{index}"
        if not isinstance(option, Mapping):
            problems.append(Problem(path, f"must be a mapping of top-level blocks (got {shown(option)})"))
            continue
        unknown = [key for key in option if key not in (*BLOCKS, "preset")]
        problems += [Problem(f"{path}.{key}", not_one_of(key, (*BLOCKS, "preset"))) for key in unknown]
        name = option.get("preset")
        label = name if isinstance(name, str) else str(index)
        labels[label] = labels.get(label, 0) + 1
        if labels[label] > 1:
            label = f"{label}-{labels[label]}"
        options.append((path, label, copy.deepcopy(dict(option))))
    return options


def assign(written: Written, key: str, value: Any) -> Written:
    """What ``--set key=value`` does: the value at a dotted path is replaced, in every option.

    Raises:
        UserError: the path leads nowhere.
    """
    parts = key.split(".")
    if not all(parts) or len(parts) > 12:
        raise UserError([Problem("--set", f"{shown(key)} is no dotted path of a key")])
    if parts[0] == "search":
        search = dict(written.search) if isinstance(written.search, Mapping) else {}
        _put({"search": search}, parts, value, key)
        return Written(written.options, search, written.preset)
    options = []
    for label, blocks in written.options:
        changed = copy.deepcopy(blocks)
        _put(changed, parts, copy.deepcopy(value), key)
        options.append((label, changed))
    return Written(tuple(options), written.search, written.preset)


def _put(tree: dict[str, Any], parts: list[str], value: Any, key: str) -> None:
    node: Any = tree
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        place: Any = part
        if isinstance(node, list):
            if not part.isdecimal() or len(part) > 6 or int(part) >= len(node):
                raise UserError([Problem("--set", f"{key}: {shown(part)} is no index of a list of {len(node)}")])
            place = int(part)
        else:
            for other in _displaced(".".join(parts[:depth]), part):
                node.pop(other, None)
        if last:
            node[place] = value
            return
        below = node[place] if isinstance(node, list) else node.get(place)
        if isinstance(below, str) and below != "none":
            below = {"name": below}
        elif not isinstance(below, dict | list):
            below = {}
        node[place] = below
        node = below
