"""Merges presets, options and ``--set`` into complete blocks."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prune_search.recipe.axes import PRESETS
from prune_search.recipe.fields import child
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import Reading
from prune_search.recipe.schema import BLOCKS

# Keys of one mapping that exclude each other: what is written displaces what was inherited.
ALTERNATIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrain": (("steps", "until"), ("schedule", "clock")),
    "mask.sparsity": (("final", "per_round", "by", "layers", "budget"),),
    "mask.score": (("batches", "per_class", "calibration"),),
}
# Where a word is not the name of a registered value, and gives way to a mapping that --set begins.
WORDS = ("retrain", "retrain.steps", "retrain.clock", "mask.at", "mask.sparsity")

MAX_OPTIONS = 1000


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
        own: label to the dotted paths that the option wrote itself; what it shares with the others is not among them.
    """

    options: tuple[tuple[str, dict[str, Any]], ...]
    search: Any = None
    preset: str | None = None
    own: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def place(self, label: str, path: str) -> str:
        """How a path of an option is called: with the option, where the option wrote it."""
        above = path.split(".")
        mine = any(".".join(above[:depth]) in self.own.get(label, ()) for depth in (1, 2))
        return child(f"any[{label}]", path) if mine and len(self.options) > 1 else path


def expand(raw: Mapping[str, Any], reading: Reading) -> Written:
    """Resolve ``preset`` and ``any`` away.

    An unknown preset, or an ``any`` that is no list of mappings of top-level blocks, goes to `reading`; another preset
    then stands in for an unknown one, so that what else is wrong can be said too.
    """
    rest = {key: copy.deepcopy(value) for key, value in raw.items() if key not in ("any", "search")}
    options = _options(raw, reading)
    expanded, own = [], {}
    for path, label, option in options:
        merged = merge(rest, option)
        if "preset" in merged:
            place = child(path, "preset") if "preset" in option else "preset"
            merged = merge(_preset(merged.pop("preset"), place, reading), merged)
        expanded.append((label, merged))
        own[label] = _own(option)
    typed = rest.get("preset") if isinstance(rest.get("preset"), str) else None
    return Written(tuple(expanded), copy.deepcopy(raw.get("search")), typed, own)


def _own(option: Mapping[str, Any]) -> frozenset[str]:
    paths: set[str] = set()
    for name, block in option.items():
        if isinstance(block, Mapping) and not _whole(block):
            paths |= {child(name, key) for key in block}
        elif name != "preset":
            paths.add(name)
    return frozenset(paths)


def _preset(name: Any, path: str, reading: Reading) -> dict[str, Any]:
    if not isinstance(name, str) or name not in PRESETS:
        reading.wrong(path, not_one_of(name, PRESETS))
        near = difflib.get_close_matches(name, list(PRESETS), n=1) if isinstance(name, str) and len(name) < 80 else []
        name = (near or list(PRESETS))[0]
    blocks: dict[str, Any] = copy.deepcopy(PRESETS[name].make())
    return blocks


def _options(raw: Mapping[str, Any], reading: Reading) -> list[tuple[str, str, dict[str, Any]]]:
    """(path, label, blocks) of each option."""
    if "any" not in raw:
        return [("", "", {})]
    given = raw["any"]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_OPTIONS:
        reading.wrong("any", f"must be a list of 1 to {MAX_OPTIONS} options (got {shown(given)})")
        return []
    options: list[tuple[str, str, dict[str, Any]]] = []
    labels: dict[str, int] = {}
    for index, option in enumerate(given):
        path = f"any.{index}"
        if not isinstance(option, Mapping):
            reading.wrong(path, f"must be a mapping of top-level blocks (got {shown(option)})")
            continue
        known = (*BLOCKS, "preset")
        for key in option:
            if key not in known:
                reading.wrong(child(path, key), not_one_of(key, known))
        name = option.get("preset")
        label = name if isinstance(name, str) and name in PRESETS else str(index)
        labels[label] = labels.get(label, 0) + 1
        if labels[label] > 1:
            label = f"{label}-{labels[label]}"
        options.append((path, label, {key: copy.deepcopy(option[key]) for key in option if key in known}))
    return options


def assign(written: Written, key: str, value: Any) -> Written:
    """What ``--set key=value`` does: the value at a dotted path is replaced, in every option.

    Raises:
        UserError: the path leads nowhere.
    """
    parts = key.split(".")
    if not all(parts) or len(parts) > 12:
        raise UserError([Problem("--set", f"{shown(key)} is not a dotted path to a key")])
    if parts[0] in ("preset", "any"):
        raise UserError([Problem("--set", f"{shown(key)}: {parts[0]} can only be written in the file, not set")])
    if parts[0] == "search":
        tree = {"search": copy.deepcopy(written.search)}
        _put(tree, parts, copy.deepcopy(value), key)
        return replace(written, search=tree["search"])
    options = []
    for label, blocks in written.options:
        changed = copy.deepcopy(blocks)
        _put(changed, parts, copy.deepcopy(value), key)
        options.append((label, changed))
    own = {
        label: frozenset(p for p in paths if not f"{p}.".startswith(f"{key}.")) for label, paths in written.own.items()
    }
    return replace(written, options=tuple(options), own=own)


def _put(tree: dict[str, Any], parts: list[str], value: Any, key: str) -> None:
    node: Any = tree
    for depth, part in enumerate(parts):
        place: Any = part
        if isinstance(node, list):
            if not part.isdecimal() or len(part) > 6 or int(part) >= len(node):
                text = f"{shown(key)}: {shown(part)} is not an index into a list of {len(node)}"
                raise UserError([Problem("--set", text)])
            place = int(part)
        else:
            for other in _displaced(".".join(parts[:depth]), part):
                node.pop(other, None)
        if depth == len(parts) - 1:
            node[place] = value
            return
        below = node[place] if isinstance(node, list) else node.get(place)
        if isinstance(below, str) and ".".join(parts[: depth + 1]) not in WORDS:
            below = {"name": below}
        elif not isinstance(below, dict | list):
            below = {}
        node[place] = below
        node = below
