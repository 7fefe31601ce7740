"""Reads each kind of key from a file into its canonical form: one small frozen class per kind."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prune_search.recipe.facts import Criterion, Transform
from prune_search.recipe.plain_data import Plain
from prune_search.recipe.problems import UserError, not_one_of, shown, suggestion
from prune_search.recipe.reading import BAD, Reading
from prune_search.recipe.registry import REQUIRED, AnyAxis, AnyEntry, Field, Option
from prune_search.recipe.step import MAX_ITERATIONS, Step


def child(path: str, key: object) -> str:
    """The path of a key below `path`. A key that would not fit on a line of text is quoted and cut."""
    text = str(key)
    if not (text and text.isascii() and text.isprintable() and len(text) <= 60):
        text = shown(text)
    return f"{path}.{text}" if path else text


def canonical(field: Field, written: Any, path: str, library: bool = False) -> Any:
    """The canonical form of what was given outside a recipe.

    Args:
        field: what it is to be.
        written: what was given.
        path: what it is called in messages.
        library: whether a library function was given it.

    Raises:
        UserError: with everything that is wrong about it.
    """
    told = Reading(library=library)
    read = field.read(written, path, told)
    if told.problems or read is BAD:
        raise UserError(told.problems)
    return read


@dataclass(frozen=True)
class Number:
    """A finite number in a range."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def describe(self) -> str:
        left = f"{'>' if self.above else '≥'} {self.low:g}" if math.isfinite(self.low) else ""
        right = f"{'<' if self.below else '≤'} {self.high:g}" if math.isfinite(self.high) else ""
        return f"a number {' and '.join(filter(None, (left, right)))}".strip()

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        if isinstance(raw, int) and abs(raw) > 10**300:
            return reading.wrong(path, f"is too large (got {shown(raw)})")
        value = float(raw)
        fits = math.isfinite(value) and (value > self.low if self.above else value >= self.low)
        fits = fits and (value < self.high if self.below else value <= self.high)
        # 0.0 is added so that -0.0 and 0.0, which are equal, have one written form.
        return value + 0.0 if fits else reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")


@dataclass(frozen=True)
class Integer:
    """A whole number in a range."""

    low: int = 0
    high: int = 10**9

    def describe(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, int) or not self.low <= raw <= self.high:
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        return raw


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def describe(self) -> str:
        return "true or false"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        return raw if isinstance(raw, bool) else reading.wrong(path, f"must be true or false (got {shown(raw)})")


@dataclass(frozen=True)
class Word:
    """One of a few words."""

    words: tuple[str, ...]

    def describe(self) -> str:
        return ", ".join(self.words)

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, str) and raw in self.words:
            return raw
        return reading.wrong(path, f"{not_one_of(raw, self.words)}")


@dataclass(frozen=True)
class Text:
    """A short text on one line."""

    limit: int = 400

    def describe(self) -> str:
        return f"a string of at most {self.limit} characters"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, str) and 0 < len(raw) <= self.limit and raw.isprintable():
            return raw
        return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")


@dataclass(frozen=True)
class Settings:
    """A mapping of names to plain values, for a library that checks them itself; its keys are put in order."""

    most: int = 200

    def describe(self) -> str:
        return "a mapping of names to numbers, strings, true, false, lists or mappings"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if not isinstance(raw, Mapping) or len(raw) > self.most or not all(map(_is_setting, raw, raw.values())):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        return {key: _settled(raw[key]) for key in sorted(raw)}


def _is_setting(name: Any, value: Any, depth: int = 0) -> bool:
    if not (isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()) or depth > 6:
        return False
    if isinstance(value, Mapping):
        return all(_is_setting(key, below, depth + 1) for key, below in value.items())
    if isinstance(value, list):
        return all(_is_setting("0", below, depth + 1) for below in value)
    finite = not isinstance(value, float) or math.isfinite(value)
    return value is None or (isinstance(value, bool | int | float | str) and finite)


def _settled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _settled(value[key]) for key in sorted(value)}
    return [_settled(below) for below in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class ClockStep:
    """A place on a training clock, or one of a few words that name one."""

    words: tuple[str, ...] = ()

    def describe(self) -> str:
        return "a step (3ep, 120it, 5%, end, end-3ep)" + "".join(f" or {word}" for word in self.words)

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        if isinstance(raw, str) and raw in self.words:
            return raw
        return _read_step(raw, path, reading, self.describe())


@dataclass(frozen=True)
class Length:
    """A length of training. It is no place: it does not count back from an end."""

    positive: bool = False
    absolute: bool = False

    def describe(self) -> str:
        share = "" if self.absolute else ", 5%"
        return f"a {'positive ' if self.positive else ''}length (3ep, 120it, 3ep20it{share})"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        text = _read_step(raw, path, reading, self.describe())
        if text is BAD:
            return BAD
        step = Step.parse(text)
        if step.back or (self.absolute and step.relative) or (self.positive and step.place(Step(unit="it")) == "start"):
            return reading.wrong(path, f"must be {self.describe()} (got {shown(raw)})")
        return text


def _read_step(raw: Any, path: str, reading: Reading, expected: str) -> Any:
    if not isinstance(raw, str):
        return reading.wrong(path, f"must be {expected} (got {shown(raw)}){_step_meant(raw)}")
    try:
        return str(Step.parse(raw))
    except ValueError as error:
        return reading.wrong(path, f"{shown(raw)} {error}{_step_near(raw)}")


def _step_near(raw: str) -> str:
    """A step that differs in spaces and capitals only, or a misspelt end."""
    if len(raw) > 20:
        return ""
    with contextlib.suppress(ValueError):
        return f" (did you mean {str(Step.parse(''.join(raw.lower().split())))!r}?)"
    return suggestion(raw, ("end",))


def _step_meant(raw: Any) -> str:
    whole = isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= MAX_ITERATIONS
    return f" (did you mean '{raw}it'?)" if whole else ""


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind. A single value is a list of one."""

    item: Field
    least: int = 0
    most: int = 100

    def describe(self) -> str:
        return f"a list of {self.item.describe()}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        items = raw if isinstance(raw, list) else [raw]
        if not self.least <= len(items) <= self.most:
            return reading.wrong(path, f"must be a list of {self.least} to {self.most} values (got {len(items)})")
        values = [self.item.read(item, child(path, index), reading) for index, item in enumerate(items)]
        return BAD if any(value is BAD for value in values) and not reading.partial else values


@dataclass(frozen=True)
class Either:
    """One of several kinds, told apart by the type of what is written."""

    kinds: tuple[tuple[type | tuple[type, ...], Field], ...]

    def describe(self) -> str:
        return ", or ".join(kind.describe() for _, kind in self.kinds)

    def read(self, raw: Plain, path: str, reading: Reading) -> Plain:
        for types, kind in self.kinds:
            named_types = types if isinstance(types, tuple) else (types,)
            # To Python a truth value is a whole number; to a reader it is not.
            if isinstance(raw, types) and (not isinstance(raw, bool) or bool in named_types):
                return kind.read(raw, path, reading)
        meant = _step_meant(raw) if any(isinstance(kind, ClockStep | Length) for _, kind in self.kinds) else ""
        bad: Plain = reading.wrong(path, f"must be {self.describe()} (got {shown(raw)}){meant}")
        return bad


def any_entry(entry: AnyEntry) -> bool:
    """Every entry of an axis is allowed."""
    return True


def scores_weights(entry: AnyEntry) -> bool:
    """Criteria by which single weights can be told apart: all but those that keep everything."""
    return isinstance(entry.facts, Criterion) and not entry.facts.keeps_all


def sees_the_mask(entry: AnyEntry) -> bool:
    """Transforms for ``weights.transform``."""
    return isinstance(entry.facts, Transform) and entry.facts.place in ("transform", "both")


def comes_before_the_mask(entry: AnyEntry) -> bool:
    """Transforms for ``mask.prepare``."""
    return isinstance(entry.facts, Transform) and entry.facts.place in ("prepare", "both")


# Where a family and its member are written apart: ``{name: timm, id: resnet18}``.
MEMBER = "id"


@dataclass(frozen=True)
class Value:
    """A registered value of an axis that `allows` lets through: its name, or ``{name: …, options}``."""

    axis: AnyAxis
    allows: Callable[[AnyEntry], bool] = any_entry

    def describe(self) -> str:
        return f"a {self.axis.name}: {', '.join(entry.shown for entry in self.axis.listed())}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        given = {"name": raw} if isinstance(raw, str) else raw
        if not isinstance(given, Mapping):
            expected = f"the name of a {self.axis.name}, or {{name: …, options}}"
            return reading.wrong(path, f"must be {expected} (got {shown(raw)})")
        if "name" not in given:
            return reading.wrong(path, f"needs the key 'name' of a {self.axis.name} (got {shown(raw)})")
        given = self._with_whole_name(given)
        name = given["name"]
        entry = self.axis.get(name) if isinstance(name, str) else None
        if entry is None or not self.allows(entry):
            known = [entry for entry in self.axis.listed() if self.allows(entry)]
            return reading.wrong(path, self.axis.unknown(name, known))
        return named(entry, {key: value for key, value in given.items() if key != "name"}, path, reading)

    def _with_whole_name(self, given: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """``{name: timm, id: resnet18}`` as ``{name: timm/resnet18}``, the one form that is stored; else as it is."""
        name, member = given["name"], given.get(MEMBER)
        if not (isinstance(name, str) and name in self.axis.families and isinstance(member, str)):
            return given
        return {**{key: value for key, value in given.items() if key != MEMBER}, "name": f"{name}/{member}"}


def named(entry: AnyEntry, given: Mapping[str, Any], path: str, reading: Reading) -> Any:
    """The canonical form of a registered value: the bare name where no option is written, a mapping elsewhere."""
    options = read_block(entry.options, given, path, reading)
    if options is BAD:
        return BAD
    return {"name": entry.name, **options} if options else entry.name


def read_block(options: Mapping[str, Option], given: Any, path: str, reading: Reading) -> Any:
    """Read a mapping with known keys; every unknown or missing key and every bad value is said."""
    if not isinstance(given, Mapping):
        return reading.wrong(path, f"must be a mapping with the keys {', '.join(options)} (got {shown(given)})")
    good = True
    for key in given:
        if key not in options:
            good = False
            known = f"; valid keys: {', '.join(options)}" if options else "; it takes no options"
            reading.wrong(child(path, key), f"is not a key of {path or 'a recipe'}{suggestion(key, options)}{known}")
    values: dict[str, Any] = {}
    for key, option in options.items():
        raw = given.get(key, _left_out(option, reading))
        if raw is None:
            if key in given:
                good = False
                values[key] = reading.wrong(child(path, key), f"is empty; it must be {option.field.describe()}")
            continue
        if raw is REQUIRED:
            good = False
            values[key] = reading.wrong(child(path, key), f"is missing; it must be {option.field.describe()}")
            continue
        value = option.field.read(raw, child(path, key), reading)
        good = good and value is not BAD
        if value is BAD or not (option.later and value == canonical_default(option)):
            values[key] = value
    return values if good or reading.partial else BAD


def _left_out(option: Option, reading: Reading) -> Any:
    """What an option means that is left out."""
    if reading.of_0_1 and option.in_0_1 is not None:
        return option.in_0_1
    return option.released if reading.library and option.released is not None else option.default


def canonical_default(option: Option) -> Any:
    """An option's default in its canonical form; None where the option can be absent or must be given."""
    if option.default is None or option.default is REQUIRED:
        return None
    return option.field.read(option.default, "", Reading())


@dataclass(frozen=True)
class Optimizer:
    """An optimizer. Given in part it is merged over the outer one: the default, or inside a phase train's."""

    axis: AnyAxis

    def describe(self) -> str:
        return f"an optimizer: {', '.join(sorted(self.axis))}"

    def read(self, raw: Any, path: str, reading: Reading) -> Any:
        outer = reading.outer_optimizer
        given = {"name": raw} if isinstance(raw, str) else raw
        if isinstance(given, Mapping) and "name" not in given and outer is None:
            return BAD
        if isinstance(given, Mapping) and outer is not None and given.get("name", outer["name"]) == outer["name"]:
            given = {**outer, **given}
        return Value(self.axis).read(given, path, reading)
