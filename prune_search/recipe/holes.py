"""Holes: the values of a space that a sampler fills in.

``{hole: uniform|loguniform|int|choice, low, high, of, step, log}``; bounds are numbers, or steps of one unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Protocol

from prune_search.recipe.fields import Flag, Integer, Number, child
from prune_search.recipe.problems import not_one_of, shown
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.step import Step

KINDS = ("uniform", "loguniform", "int", "choice")
KEYS = {
    "uniform": ("low", "high", "step"),
    "loguniform": ("low", "high"),
    "int": ("low", "high", "step", "log"),
    "choice": ("of",),
}
MAX_CHOICES = 1000
LARGEST = 1e12
END = Step(back=True, unit="end")

# What the length of an epoch depends on, and which keys are therefore filled before their neighbours.
EPOCH_PATHS = ("task.data", "train.batch", "train.accumulate")
FIRST = {"": ("task", "train"), "train": ("batch", "accumulate")}


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
        for index, option in enumerate(_options(node)):
            check_holes(option, f"{path}.of.{index}", reading)
        return
    for key, value in _children(node):
        check_holes(value, child(path, key), reading)


def without_broken_holes(node: Any, path: str, broken: set[str]) -> Any:
    """`node` with None in place of what is no proper hole; the paths of those (as draws call them) go to `broken`.

    So what else is wrong can still be said.
    """
    if path and is_hole(node):
        options = [option for option in _options(node) if not _is_broken(option)]
        if _is_broken(node) or (node["hole"] == "choice" and not options):
            broken.add(path)
            return None
        if node["hole"] == "choice":
            return {**node, "of": [without_broken_holes(option, path, broken) for option in options]}
        return node
    if isinstance(node, Mapping):
        return {key: without_broken_holes(value, child(path, key), broken) for key, value in node.items()}
    if isinstance(node, list):
        return [without_broken_holes(value, child(path, index), broken) for index, value in enumerate(node)]
    return node


def _is_broken(node: Any) -> bool:
    reading = Reading()
    if is_hole(node):
        _check(node, "", reading)
    return bool(reading.problems)


def _options(hole: Mapping[str, Any]) -> list[Any]:
    return hole["of"] if isinstance(hole.get("of"), list) else []


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
            reading.wrong(child(path, key), f"is not a key of a hole of kind {kind}: {not_one_of(key, KEYS[kind])}")
    if kind == "choice":
        options = hole.get("of")
        if not isinstance(options, list) or not 1 <= len(options) <= MAX_CHOICES:
            reading.wrong(child(path, "of"), f"must be a list of 1 to {MAX_CHOICES} values (got {shown(options)})")
        return
    low, high = _bounds(hole, path, reading)
    if low is not BAD and high is not BAD:
        _check_bounds(hole, low, high, path, reading)
    if "log" in hole:
        Flag().read(hole["log"], child(path, "log"), reading)
    if "step" in hole:
        whole = kind == "int" or (isinstance(low, Step) and _unit(low) == "it")
        kind_of_step = Integer(1, 10**9) if whole else Number(0.0, LARGEST, above=True)
        kind_of_step.read(hole["step"], child(path, "step"), reading)
        if hole.get("log") is True:
            reading.wrong(child(path, "step"), "cannot be combined with log")


def _check_bounds(hole: Mapping[str, Any], low: Any, high: Any, path: str, reading: Reading) -> None:
    got = f"(got {shown(hole['low'])} and {shown(hole['high'])})"
    if isinstance(low, Step) != isinstance(high, Step) or (
        isinstance(low, Step) and (_unit(low), low.back) != (_unit(high), high.back)
    ):
        reading.wrong(path, f"needs bounds in the same unit {got}")
        return
    if isinstance(low, Step) and (high.epochs - low.epochs) * (high.iterations - low.iterations) < 0:
        reading.wrong(path, f"needs bounds whose order does not depend on the length of an epoch {got}")
        return
    least, most = _amount(low, 1), _amount(high, 1)
    if isinstance(low, Step) and low.back:
        least, most = most, least
    if least > most:
        reading.wrong(path, f"low is above high {got}")
    elif hole["hole"] == "int" and math.ceil(least) > math.floor(most):
        reading.wrong(path, f"contains no whole number {got}")
    if (hole["hole"] == "loguniform" or hole.get("log") is True) and min(least, most) <= 0:
        reading.wrong(child(path, "low"), f"must be above 0 on a log scale {got}")


def _bounds(hole: Mapping[str, Any], path: str, reading: Reading) -> tuple[Any, Any]:
    low, high = (_bound(hole, hole["hole"], key, path, reading) for key in ("low", "high"))
    if isinstance(low, Step) and isinstance(high, Step):
        return _end_in_unit_of(high, low), _end_in_unit_of(low, high)
    return low, high


def _end_in_unit_of(other: Step, bound: Step) -> Step:
    """A bound; the end as no steps back, in whatever unit the other bound counts back."""
    if bound.unit != "end" or not other.back:
        return bound
    return replace(other, epochs=0, iterations=0, percent=None if other.percent is None else Decimal(0))


def _bound(hole: Mapping[str, Any], kind: str, key: str, path: str, reading: Reading) -> Any:
    if key not in hole:
        return reading.wrong(child(path, key), f"is missing; holes of kind {kind} need low and high")
    raw = hole[key]
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


def amount_in(hole: Mapping[str, Any], said: Any, epoch: int) -> float | int | None:
    """What a draw of a range would have to be for the hole to become a value; None where none would do.

    Args:
        hole: no choice, and nothing is wrong with it.
        said: a number, or a written step.
        epoch: iterations in an epoch, by which steps in another unit are counted.
    """
    low, high = _bounds(hole, "", Reading())
    value = said
    if isinstance(low, Step):
        value = _amount_of(low, said, epoch)
        low, high = (high, low) if low.back else (low, high)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    whole = hole["hole"] == "int" or (isinstance(low, Step) and _unit(low) == "it")
    least, most = _amount(low, epoch), _amount(high, epoch)
    least, most = (math.ceil(least), math.floor(most)) if whole else (least, most)
    step = hole.get("step", 1 if whole else None)
    on_grid = step is None or abs((value - least) / step - round((value - least) / step)) < 1e-9
    if not (least <= value <= most and on_grid):
        return None
    return round(value) if whole else float(value)


def _amount_of(bound: Step, said: Any, epoch: int) -> float | None:
    """A written step in a bound's unit; None where it cannot be told."""
    try:
        step = Step.parse(said) if isinstance(said, str) else None
    except ValueError:
        return None
    if step is None or (step.back or step.unit == "end") != bound.back:
        return None
    if step.unit == "end":
        return 0.0
    if (step.percent is None) != (bound.percent is None):
        # No other unit says the beginning.
        return 0.0 if not step.back and step.place(Step(unit="it")) == "start" else None
    if step.percent is not None:
        return float(step.percent)
    iterations = step.epochs * epoch + step.iterations
    if _unit(bound) == "it":
        return iterations
    return step.epochs + step.iterations / epoch


@dataclass
class Filler:
    """Fills the holes of a tree, one draw each.

    Attributes:
        draw: who draws.
        place: a path to the sampler's name of it, which also carries the option of ``any`` that wrote it.
        epoch_of: iterations in an epoch, for draws between whole epochs, given ``task.data``, ``train.batch`` and
            ``train.accumulate`` as drawn (None where they are not written).
        params: what was drawn, by dotted path (without the options that it lies in).
        labels: the labels of every choice met so far, by the sampler's name; kept from one point to the next.
        settled: those two, once they are drawn.
        as_written: draw the holes in the order in which their keys were written, and not in the order of their names.
    """

    draw: Draw
    place: Callable[[str], str]
    epoch_of: Callable[[Any, Any, Any], int]
    params: dict[str, Any]
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    as_written: bool = False

    @property
    def epoch(self) -> int:
        """Iterations in an epoch."""
        return self.epoch_of(*(self.settled.get(path) for path in EPOCH_PATHS))

    def fill(self, node: Any, path: str, name: str | None = None) -> Any:
        """`node` without holes.

        Args:
            node: what stands in the file.
            path: its dotted path.
            name: the sampler's name of it inside an option of a choice; None elsewhere.
        """
        # A whole file is no hole, whatever stands in it.
        if path and is_hole(node):
            return self._drawn(node, path, self.place(path) if name is None else name)
        if isinstance(node, Mapping):
            filled = {}
            for key in _drawing_order(node, path, self.as_written):
                below = child(path, key)
                filled[key] = self.fill(node[key], below, None if name is None else child(name, key))
                if below in EPOCH_PATHS:
                    self.settled[below] = filled[key]
            return {key: filled[key] for key in node}
        if isinstance(node, list):
            return [self.fill(v, child(path, i), None if name is None else child(name, i)) for i, v in enumerate(node)]
        return node

    def _drawn(self, hole: Mapping[str, Any], path: str, name: str) -> Any:
        if hole["hole"] == "choice":
            if name not in self.labels:
                self.labels[name] = choice_labels(hole["of"], self.as_written)
            labels = self.labels[name]
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
        epoch = self.epoch
        least, most = _amount(low, epoch), _amount(high, epoch)
        if hole["hole"] == "int" or _unit(low) == "it":
            amount: float = self.draw.integer(name, math.ceil(least), math.floor(most), log, int(hole.get("step", 1)))
        else:
            amount = self.draw.uniform(name, least, most, log, hole.get("step"))
        return str(_step(amount, _unit(low), low.back, epoch))


def _drawing_order(node: Mapping[str, Any], path: str, as_written: bool) -> list[str]:
    """The keys of a mapping in the order in which their holes are drawn.

    The keys that settle the length of an epoch come first. The others follow by name, so that the order in which a file
    writes its keys, and whether they were stored and read in between, make no difference to what is proposed.
    """
    first = [key for key in FIRST.get(path, ()) if key in node]
    rest = [key for key in node if key not in first]
    return first + (rest if as_written else sorted(rest, key=str))


def _step(amount: float, unit: str, back: bool, epoch: int) -> Step:
    """A drawn amount as a step, rounded to an iteration. No step back from the end is the end."""
    if unit == "%":
        percent = Decimal(f"{amount:.6f}").normalize()
        return Step(percent=percent, back=back, unit="%") if percent or not back else END
    iterations = round(amount) if unit == "it" else round(amount * epoch)
    if back and not iterations:
        return END
    if unit == "it":
        return Step(iterations=iterations, back=back, unit="it")
    epochs, rest = divmod(iterations, epoch)
    return Step(epochs=epochs, iterations=rest, back=back, unit="epit" if epochs and rest else "it" if rest else "ep")


def choice_labels(options: list[Any], as_written: bool = False) -> tuple[str, ...]:
    """One distinct label on one line per option: its value, a registered value's name, or its number and keys.

    Args:
        options: of a choice.
        as_written: name the keys of an option in the order in which they were written, and not by name.
    """
    labels: dict[str, None] = {}
    for index, option in enumerate(options):
        label = str(option)
        if isinstance(option, Mapping):
            name = option.get("name")
            keys = map(str, option) if as_written else sorted(map(str, option))
            label = name if isinstance(name, str) else f"{index}-{'-'.join(keys)}"
        if isinstance(option, list) or not label or not label.isprintable():
            label = str(index)
        if label in labels or len(label) > 60:
            label = f"{index}-{label[:40]}"
        while label in labels:
            label += "'"
        labels[label] = None
    return tuple(labels)
