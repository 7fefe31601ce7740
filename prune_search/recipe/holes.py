"""Holes: the places of a space that a sampler fills.

``{hole: uniform|loguniform|int|choice, low, high, of, step, log}``; bounds are numbers, or steps of one unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from prune_search.recipe.fields import BAD, Flag, Integer, Number, Reading, Word, child
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.step import Step

KINDS = ("uniform", "loguniform", "int", "choice")
KEYS = {
    "uniform": ("low", "high", "step"),
    "loguniform": ("low", "high"),
    "int": ("low", "high", "step", "log"),
    "choice": ("of",),
}
MOST_CHOICES = 1000
LARGEST = 1e12


class Draw(Protocol):
    """Who fills holes: an Optuna trial, a grid, a random number generator."""

    def choice(self, name: str, labels: tuple[str, ...]) -> int:
        """The index of one of `labels`."""

    def uniform(self, name: str, low: float, high: float, log: bool, step: float | None) -> float:
        """A real number from `low` to `high`."""

    def integer(self, name: str, low: int, high: int, log: bool, step: int) -> int:
        """A whole number from `low` to `high`."""


def is_hole(node: Any) -> bool:
    """Whether a node of a file is a hole."""
    return isinstance(node, Mapping) and "hole" in node


def check_holes(node: Any, path: str, reading: Reading) -> None:
    """Say everything that is wrong with the holes at and below `node`."""
    if is_hole(node):
        _check(node, path, reading)
        for index, option in enumerate(node["of"] if isinstance(node.get("of"), list) else []):
            check_holes(option, f"{path}.of.{index}", reading)
        return
    for key, value in _children(node):
        check_holes(value, child(path, key), reading)


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list):
        yield from enumerate(node)


def _check(hole: Mapping[str, Any], path: str, reading: Reading) -> None:
    kind = hole["hole"]
    if kind not in KINDS:
        reading.wrong(child(path, "hole"), not_one_of(kind, KINDS))
        return
    for key in hole:
        if key != "hole" and key not in KEYS[kind]:
            reading.wrong(child(path, key), f"is no key of a hole of kind {kind}: {not_one_of(key, KEYS[kind])}")
    if kind == "choice":
        options = hole.get("of")
        if not isinstance(options, list) or not 1 <= len(options) <= MOST_CHOICES:
            reading.wrong(child(path, "of"), f"must be a list of 1 to {MOST_CHOICES} values (got {shown(options)})")
        return
    low, high = _bounds(hole, path, reading)
    if low is BAD or high is BAD:
        return
    if isinstance(low, Step) != isinstance(high, Step) or (
        isinstance(low, Step) and (_unit(low), low.back) != (_unit(high), high.back)
    ):
        reading.wrong(path, f"needs bounds of one unit (got {shown(hole['low'])} and {shown(hole['high'])})")
        return
    least, most = _amount(low, 1), _amount(high, 1)
    if isinstance(low, Step) and low.back:
        least, most = most, least
    if least > most:
        reading.wrong(path, f"low is above high (got {shown(hole['low'])} and {shown(hole['high'])})")
    if (kind == "loguniform" or hole.get("log") is True) and min(least, most) <= 0:
        reading.wrong(child(path, "low"), f"must be above 0 on a log scale (got {shown(hole['low'])})")
    if "log" in hole:
        Flag().read(hole["log"], child(path, "log"), reading)
    if "step" in hole:
        kind_of_step = Integer(1, 10**9) if kind == "int" else Number(0.0, LARGEST, above=True)
        kind_of_step.read(hole["step"], child(path, "step"), reading)
        if hole.get("log") is True:
            reading.wrong(child(path, "step"), "cannot stand beside log")


def _bounds(hole: Mapping[str, Any], path: str, reading: Reading) -> tuple[Any, Any]:
    low, high = (_bound(hole, hole["hole"], key, path, reading) for key in ("low", "high"))
    if isinstance(low, Step) and isinstance(high, Step):
        # The end is no steps back, in whatever unit the other bound has.
        low = replace(high, epochs=0, iterations=0, percent=high.percent and Decimal(0)) if low.unit == "end" else low
        high = replace(low, epochs=0, iterations=0, percent=low.percent and Decimal(0)) if high.unit == "end" else high
    return low, high


def _bound(hole: Mapping[str, Any], kind: str, key: str, path: str, reading: Reading) -> Any:
    raw = hole.get(key)
    if isinstance(raw, str):
        try:
            step = Step.parse(raw)
        except ValueError as error:
            return reading.wrong(child(path, key), f"{shown(raw)} {error}")
        return step
    if kind == "int":
        return Integer(-(10**12), 10**12).read(raw, child(path, key), reading)
    return Number(-LARGEST, LARGEST).read(raw, child(path, key), reading)


def _unit(step: Step) -> str:
    """The unit in which a step is drawn; epochs and iterations together are drawn in iterations."""
    return "it" if step.unit == "epit" else step.unit


def _amount(bound: Any, epoch: int) -> float:
    """A bound in its unit: epochs, iterations or percent."""
    if not isinstance(bound, Step):
        return float(bound)
    if bound.percent is not None:
        return float(bound.percent)
    return float(bound.epochs if bound.unit == "ep" else bound.epochs * epoch + bound.iterations)


@dataclass
class Filler:
    """Fills the holes of a tree, one draw each.

    Attributes:
        draw: who draws.
        epoch: iterations in an epoch, for draws between whole epochs.
        params: what was drawn, by dotted path (without the options that it lies in).
    """

    draw: Draw
    epoch: int
    params: dict[str, Any]

    def fill(self, node: Any, path: str, name: str) -> Any:
        """`node` without holes.

        Args:
            node: what stands in the file.
            path: its dotted path.
            name: the sampler's name of it, which also carries the options that it lies in.
        """
        if is_hole(node):
            return self._drawn(node, path, name)
        if isinstance(node, Mapping):
            return {key: self.fill(value, child(path, key), child(name, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [self.fill(value, child(path, i), child(name, i)) for i, value in enumerate(node)]
        return node

    def _drawn(self, hole: Mapping[str, Any], path: str, name: str) -> Any:
        if hole["hole"] == "choice":
            labels = choice_labels(hole["of"])
            index = self.draw.choice(name, labels)
            option = hole["of"][index]
            self.params[path] = option if not isinstance(option, dict | list) else labels[index]
            return self.fill(option, path, f"{name}[{labels[index]}]")
        value = self._number(hole, name)
        self.params[path] = value
        return value

    def _number(self, hole: Mapping[str, Any], name: str) -> Any:
        low, high = _bounds(hole, "", Reading())
        log = hole["hole"] == "loguniform" or hole.get("log") is True
        if not isinstance(low, Step):
            if hole["hole"] == "int":
                return self.draw.integer(name, int(low), int(high), log, hole.get("step", 1))
            return self.draw.uniform(name, float(low), float(high), log, hole.get("step"))
        if low.back:
            low, high = high, low
        least, most = _amount(low, self.epoch), _amount(high, self.epoch)
        if hole["hole"] == "int" or _unit(low) == "it":
            amount: float = self.draw.integer(name, math.ceil(least), math.floor(most), log, int(hole.get("step", 1)))
        else:
            amount = self.draw.uniform(name, least, most, log, hole.get("step"))
        return str(_step(amount, _unit(low), low.back, self.epoch))


def _step(amount: float, unit: str, back: bool, epoch: int) -> Step:
    """A drawn amount as a step, rounded to an iteration."""
    if unit == "%":
        return Step(percent=Decimal(f"{amount:.6f}").normalize(), back=back, unit="%")
    if unit == "it":
        return Step(iterations=round(amount), back=back, unit="it")
    iterations = round(amount * epoch)
    epochs, rest = divmod(iterations, epoch)
    return Step(epochs=epochs, iterations=rest, back=back, unit="epit" if epochs and rest else "it" if rest else "ep")


def choice_labels(options: list[Any]) -> tuple[str, ...]:
    """One distinct label per option: its value, the name of a registered value, the key of a one-key block, or a number."""
    labels: list[str] = []
    for index, option in enumerate(options):
        label = str(option)
        if isinstance(option, Mapping):
            label = str(option["name"]) if isinstance(option.get("name"), str) else f"{index}-{'-'.join(map(str, option))}"
        elif isinstance(option, list):
            label = str(index)
        labels.append(label if label not in labels and len(label) <= 60 else f"{index}-{label[:40]}")
    return tuple(labels)
