"""Recipes that a search tries first: the values that a preset or a recipe gives to a space's holes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_search.recipe.fields import child
from prune_search.recipe.holes import amount_in, choice_labels, is_hole
from prune_search.recipe.merge import Written, expand, merge
from prune_search.recipe.problems import Problem, UserError, not_one_of, shown
from prune_search.recipe.reading import Reading
from prune_search.recipe.recipe import Recipe
from prune_search.recipe.schema import BLOCKS

# The word for a search that looks at nothing from before.
COLD = "cold"
MOST = 100
_ABSENT = object()

Find = Callable[[str], tuple[Mapping[str, Any], str]]


@dataclass(frozen=True)
class Begin:
    """``cold``, or a list of presets, recipe files and mappings of a recipe's blocks."""

    def describe(self) -> str:
        return "cold, or a list of presets, recipe files and mappings of a recipe's blocks"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if raw == COLD:
            return raw
        items = raw if isinstance(raw, list) else [raw]
        if not 1 <= len(items) <= MOST:
            return reading.wrong(path, f"must be cold, or a list of 1 to {MOST} recipes (got {len(items)})")
        # What they say of the space's holes is read when these are known.
        return copy.deepcopy(items)


def is_cold(search: Mapping[str, Any]) -> bool:
    """Whether a search looks at nothing from before."""
    return search.get("begin") == COLD


@dataclass(frozen=True)
class Beginning:
    """What a recipe says of a space's holes.

    Attributes:
        name: of the preset or file, or ``recipe N``.
        option: the label of the option of ``any``.
        values: by the sampler's name of a hole: a choice's label, or a number in the hole's unit.
        left: what it says and a hole does not take, or the space has otherwise, for people; holes are then left to the
            sampler, and the space stays as it is.
    """

    name: str
    option: str
    values: Mapping[str, Any]
    left: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """As search.json has it."""
        return {"name": self.name, "option": self.option, "values": dict(self.values), "left": list(self.left)}


def beginnings(search: Mapping[str, Any]) -> list[Beginning]:
    """Those of a canonical search block."""
    found = search.get("begin") or []
    return [] if found == COLD else [Beginning(**{**one, "left": tuple(one["left"])}) for one in found]


def read_beginnings(items: Sequence[Any], written: Written, find: Find, epoch: int) -> Iterator[Beginning | Problem]:
    """What is to be tried first, or what is wrong with it.

    Args:
        items: as `Begin` reads them.
        written: the space.
        find: the plain data of a preset or file, and what it is called.
        epoch: iterations in an epoch, as far as they are known.
    """
    for place, item in enumerate(items):
        path = f"search.begin[{place}]"
        try:
            yield _read(item, place, written, find, epoch)
        except UserError as error:
            for problem in error.problems:
                yield Problem(path, ": ".join(filter(None, (problem.source, problem.path, problem.message))))


def _read(item: Any, place: int, written: Written, find: Find, epoch: int) -> Beginning:
    if not isinstance(item, str | Mapping) or not item:
        raise UserError(f"must be a preset, a recipe file or a mapping of a recipe's blocks (got {shown(item)})")
    raw, name = find(item) if isinstance(item, str) else (item, f"recipe {place + 1}")
    # What is written in the space itself is meant; what a preset or a file brings along need not be.
    own = {} if isinstance(item, str) else {key: value for key, value in item.items() if key != "preset"}
    said = _blocks(raw)
    found = [_Fit(label, blocks, said, own, written, epoch) for label, blocks in written.options]
    for one in found:
        one.look()
    if isinstance(raw.get("preset"), str) and not isinstance(item, str):
        name = f"{raw['preset']} ({name})"
    best = min(found, key=lambda one: (len(one.wrong), one.label != raw.get("preset"), one.unlike, len(one.left)))
    if best.wrong:
        raise UserError(best.wrong)
    if not best.values and (len(found) == 1 or best.unlike):
        raise UserError("sets no value that a hole of this space can take" + _because(best.left))
    label = {"any": best.label} if len(found) > 1 else {}
    return Beginning(name, best.label, {**label, **best.values}, tuple(best.left))


def _because(left: Sequence[str]) -> str:
    return f": {'; '.join(left[:3])}" if left else ""


def _blocks(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The blocks of a recipe, its preset resolved."""
    problems = [
        Problem(child("", key), not_one_of(key, (*BLOCKS, "preset")))
        for key in raw
        if key not in (*BLOCKS, "preset", "schema", "search")
    ]
    reading = Reading()
    blocks = expand(raw, reading).options[0][1] if not problems else {}
    problems += reading.problems
    problems += [
        Problem(path, "is a hole; a recipe to begin with has none") for path, node in _all(blocks, "") if is_hole(node)
    ]
    if problems:
        raise UserError(problems)
    return blocks


def _all(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, node
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _all(value, child(path, key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _all(value, child(path, place))


@dataclass
class _Fit:
    """What a recipe says of the holes of one option.

    Attributes:
        label: of the option.
        blocks: with the holes.
        said: the recipe's blocks.
        own: what must fit.
        written: the space.
        epoch: iterations in an epoch.
        values: of the holes.
        left: what does not fit, for people.
        wrong: what must fit and does not.
        unlike: how many values that are no holes are others.
    """

    label: str
    blocks: Mapping[str, Any]
    said: Mapping[str, Any]
    own: Mapping[str, Any]
    written: Written
    epoch: int
    values: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    wrong: list[Problem] = field(default_factory=list)
    unlike: int = 0

    def look(self) -> None:
        """Find out."""
        for path, there in self._places():
            said = _at(self.said, path)
            if said is _ABSENT:
                continue
            name = self.written.place(self.label, path)
            values: dict[str, Any] = {}
            why = self._holes(there, said, path, name, values)
            if why is None:
                self.values |= values
            elif _has_hole(there):
                self._unfit(path, f"{path}: {why}")
            else:
                self.unlike += 1
                self._unfit(path, f"{path}: the space has {shown(there)} instead of {shown(said)}")

    def _places(self) -> Iterator[tuple[str, Any]]:
        """What stands one level deep in the blocks, the depth at which recipes are merged."""
        for name in BLOCKS:
            block = self.blocks.get(name, _ABSENT)
            if isinstance(block, Mapping) and not is_hole(block) and isinstance(self.said.get(name), Mapping):
                yield from ((child(name, key), value) for key, value in block.items())
            elif block is not _ABSENT:
                yield name, block

    def _unfit(self, path: str, text: str) -> None:
        if _at(self.own, path) is not _ABSENT:
            self.wrong.append(Problem("", text))
        else:
            self.left.append(text)

    def _holes(
        self, node: Any, said: Any, path: str, name: str, values: dict[str, Any], chosen: bool = False
    ) -> str | None:
        """Why what is said does not fit; None where it does, and then what it says of the holes is in `values`.

        What an option of a choice has (`chosen`) must be said to tell it from the others; elsewhere the space says it.
        """
        if is_hole(node):
            return self._hole(node, said, path, name, values)
        if not _has_hole(node):
            return None if self._same(path, node, said) else f"{shown(said)} is not {shown(node)}"
        if isinstance(node, Mapping):
            said = {"name": said} if isinstance(said, str) and "name" in node else said
            if not isinstance(said, Mapping):
                return f"{shown(said)} is not a mapping"
            for key, value in node.items():
                if key not in said:
                    if chosen and not _has_hole(value):
                        return f"{shown(said)} does not set {key}"
                    continue
                if (
                    why := self._holes(value, said[key], child(path, key), child(name, key), values, chosen)
                ) is not None:
                    return why
            return None
        return None if node == said else f"{shown(said)} is not {shown(node)}"

    def _hole(self, hole: Mapping[str, Any], said: Any, path: str, name: str, values: dict[str, Any]) -> str | None:
        if hole["hole"] != "choice":
            amount = amount_in(hole, _number(said), self.epoch)
            if amount is None:
                return f"{shown(said)} is not within {shown(hole['low'])} … {shown(hole['high'])}"
            values[name] = amount
            return None
        labels = choice_labels(hole["of"])
        for label, option in zip(labels, hole["of"], strict=True):
            inner: dict[str, Any] = {}
            if self._holes(option, said, path, f"{name}[{label}]", inner, chosen=True) is None:
                values |= {name: label, **inner}
                return None
        return f"{shown(said)} is not one of {', '.join(labels)}"

    def _same(self, path: str, one: Any, other: Any) -> bool:
        """Whether two written values mean the same there."""
        if one == other:
            return True
        read = [Recipe.examine(_with(self._whole(), path, value))[0] for value in (one, other)]
        return None not in read and len({str(recipe.canonical) for recipe in read if recipe is not None}) == 1

    def _whole(self) -> dict[str, Any]:
        """The recipe, with what it does not say as the space has it, where that is no hole."""
        base = {
            name: {key: value for key, value in block.items() if not _has_hole(value)}
            if isinstance(block, Mapping)
            else block
            for name, block in self.blocks.items()
            if not is_hole(block)
        }
        return merge(base, {name: block for name, block in self.said.items() if name in BLOCKS})


def _has_hole(node: Any) -> bool:
    return any(is_hole(below) for _, below in _all(node, ""))


def _at(tree: Any, path: str) -> Any:
    """What stands at a dotted path of at most two keys."""
    for key in path.split("."):
        if not isinstance(tree, Mapping) or key not in tree:
            return _ABSENT
        tree = tree[key]
    return tree


def _with(tree: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The tree with another value at a path."""
    key, _, rest = path.partition(".")
    below = tree.get(key)
    return {**tree, key: _with(below if isinstance(below, Mapping) else {}, rest, value) if rest else value}


def _number(said: Any) -> Any:
    """``{final: 0.9}`` is written as 0.9 too."""
    return said["final"] if isinstance(said, Mapping) and set(said) == {"final"} else said


def told(search: Mapping[str, Any]) -> list[str]:
    """For people: what the recipes that are tried first say and the space does not take."""
    return [
        f"{one.name} is tried first, with some values left to the sampler: {'; '.join(one.left)}"
        for one in beginnings(search)
        if one.left
    ]
