"""Strict YAML: plain data in and out, and all errors of a file together, each with its line.

The scalars are those of the YAML 1.2 core schema: ``2:4`` and ``yes`` are strings, ``1e-3`` is a number, and only
``true`` and ``false`` are booleans. What can surprise or harm is refused: duplicate keys, anchors, aliases, tags, keys
that are no strings, several documents, control characters, and files that are too large or too deep. The parser of
PyYAML gives events only, so that an alias is refused before anything is copied and no object is ever constructed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from prune_search.recipe.problems import Problem, UserError, shown

MAX_BYTES = 256 * 1024
MAX_LEVELS = 20
MAX_DIGITS = 30
MAX_PROBLEMS = 100
FLOW_COLUMNS = 100
_LONG_KEY = 200  # PyYAML takes a key of over 1,024 characters only where a "?" announces it

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
# U+0085, U+2028 and U+2029 break lines in YAML 1.1 and not in 1.2, so no file may depend on them.
_UNWELCOME = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_WORD = "[A-Za-z0-9_.+/%*<>=^~-]"
_PLAIN = re.compile(f"[A-Za-z0-9_/](?:{_WORD}|:(?=[A-Za-z0-9_])| (?={_WORD}))*")
_BAD: Any = object()


class _TooLong(ValueError):
    """An integer of more digits than anybody writes."""


class _Stop(Exception):
    """Reading cannot go on; the problem is noted."""


def _decimal(text: str) -> int:
    if len(text.lstrip("+-")) > MAX_DIGITS:
        raise _TooLong
    return int(text)


def _prefixed(text: str) -> int:
    if len(text) - 2 > MAX_DIGITS:
        raise _TooLong
    return int(text, 0)


def _infinity(text: str) -> float:
    return -math.inf if text.startswith("-") else math.inf


_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"(?:null|Null|NULL|~)?"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), _decimal),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), _prefixed),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)"), _infinity),
    (re.compile(r"\.(?:nan|NaN|NAN)"), lambda text: math.nan),
)


def _resolved(text: str) -> Any:
    """The value of a scalar written without quotes."""
    for pattern, convert in _SCALARS:
        if pattern.fullmatch(text):
            return convert(text)
    return text


def load(text: str | bytes, mapping: bool = False) -> Any:
    """Read one YAML document.

    Args:
        text: the document; bytes must be UTF-8, and may begin with a byte order mark.
        mapping: whether the root must be a mapping.

    Returns:
        Plain data: dict (with string keys, in the order written), list, str, int, float, bool and None.

    Raises:
        UserError: everything that is wrong; a problem's path is ``line N`` (from 1), or empty for the whole text.
    """
    return _Document(yaml.SafeLoader(_checked(text))).read(mapping)


def load_file(path: Path) -> Any:
    """Read a YAML file whose root is a mapping.

    Args:
        path: a regular file, or a link to one, of at most 256 KiB. Its size is looked at before it is read.

    Returns:
        The mapping, as `load` gives it.

    Raises:
        UserError: as `load`, and for what is no readable regular file. The source of each problem is `path`.
    """
    try:
        return load(_contents(path), mapping=True)
    except UserError as error:
        name = str(path)
        raise error.of(name if name.isprintable() else shown(name)) from None


def scalar(text: str) -> Any:
    """The value of a ``--set key=value``: read as in a file, flow mappings and lists included; nothing is None.

    Raises:
        UserError: what is wrong with it.
    """
    if not text.strip(" "):
        return None
    try:
        return load(text)
    except UserError as error:
        if _LINE_BREAK.search(text):
            raise
        raise UserError(Problem("", problem.message) for problem in error.problems) from None


def _contents(path: Path) -> bytes:
    """The bytes of a regular file, which is never opened if it is anything else: a pipe or a device can block."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError("is not a regular file")
        # It can have become a pipe since; then opening it must not wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError("is not a regular file")
            if status.st_size > MAX_BYTES:
                raise UserError(_too_large(status.st_size))
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or 'input or output error'}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"cannot be read: {error}") from error


def _too_large(size: int) -> str:
    return f"is too large: {size} bytes; at most {MAX_BYTES} are read"


def _checked(text: str | bytes) -> str:
    """The text, or a UserError for what no parser should see."""
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise UserError(_too_large(size))
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = len(_LINE_BREAK.findall(error.object[: error.start].decode("utf-8"))) + 1
            raise UserError(
                [Problem(f"line {line}", f"byte {shown(error.object[error.start])} is not valid UTF-8")]
            ) from None
    text = text.removeprefix("\ufeff")
    problems: list[Problem] = []
    for found in _UNWELCOME.finditer(text):
        line = len(_LINE_BREAK.findall(text, 0, found.start())) + 1
        problems.append(Problem(f"line {line}", f"the character U+{ord(found[0]):04X} is not allowed"))
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise UserError(problems)
    return text


@dataclass
class _Document:
    """One document while it is read: from the parser's events to plain data."""

    parser: Any  # a yaml.SafeLoader, of which only the events are used
    problems: list[Problem] = field(default_factory=list)

    def read(self, mapping: bool) -> Any:
        value: Any = None
        try:
            # What it stops for is among the problems.
            with contextlib.suppress(_Stop):
                value = self._root(mapping)
        except yaml.MarkedYAMLError as error:
            self._unparsed(error)
        except (ValueError, OverflowError):  # PyYAML lets these through for an impossible \U escape or %YAML version
            self.problems.append(Problem(f"line {self.parser.line + 1}", "contains a number that is out of range"))
        if self.problems:
            raise UserError(self.problems)
        return value

    def _unparsed(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        message = error.problem or "cannot be parsed"
        if error.context and error.context_mark:
            message += f", {error.context} from line {error.context_mark.line + 1}"
        self.problems.append(Problem(f"line {mark.line + 1}" if mark else "", " ".join(message.split())))

    def _root(self, mapping: bool) -> Any:
        self.parser.get_event()
        if self.parser.check_event(yaml.StreamEndEvent):
            self._wrong(None, "is empty")
            raise _Stop
        self.parser.get_event()
        event = self.parser.get_event()
        value = self._value(event, 0)
        if mapping and value is not _BAD and not isinstance(value, dict):
            self._wrong(event, f"must be a mapping, written key: value (got {shown(value)})")
        self.parser.get_event()
        if not self.parser.check_event(yaml.StreamEndEvent):
            self._wrong(self.parser.get_event(), "a second document begins; a file may contain only one")
        return value

    def _wrong(self, event: Any, message: str) -> Any:
        self.problems.append(Problem(f"line {event.start_mark.line + 1}" if event else "", message))
        if len(self.problems) == MAX_PROBLEMS:
            raise _Stop
        return _BAD

    def _value(self, event: Any, level: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._wrong(event, f"the alias {shown(f'*{event.anchor}')} is not allowed; write the value out")
        if event.anchor is not None:
            self._wrong(event, f"the anchor {shown(f'&{event.anchor}')} is not allowed")
        if event.tag is not None:
            self._wrong(event, f"the tag {shown(event.tag.replace('tag:yaml.org,2002:', '!!'))} is not allowed")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if level == MAX_LEVELS:
            self._wrong(event, f"is nested too deeply: at most {MAX_LEVELS} levels are allowed")
            raise _Stop
        return self._list(level + 1) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(level + 1)

    def _scalar(self, event: Any) -> Any:
        if event.style is None:
            try:
                return _resolved(event.value)
            except _TooLong:
                return self._wrong(event, f"an integer has at most {MAX_DIGITS} digits (got {shown(event.value)})")
        if found := _UNWRITABLE.search(event.value):
            return self._wrong(event, f"a string cannot contain the character U+{ord(found[0]):04X}")
        return event.value

    def _list(self, level: int) -> list[Any]:
        values = []
        while not isinstance(event := self.parser.get_event(), yaml.SequenceEndEvent):
            values.append(self._value(event, level))
        return values

    def _mapping(self, level: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self.parser.get_event(), yaml.MappingEndEvent):
            key = self._value(event, level)
            if key is not _BAD and not isinstance(key, str):
                key = self._wrong(event, f"a key must be a string; quote it if that is intended (got {shown(key)})")
            elif key in lines:
                self._wrong(event, f"duplicate key {shown(key)}, first used in line {lines[key]}")
            value = self._value(self.parser.get_event(), level)
            if key is not _BAD and key not in lines:
                lines[key] = event.start_mark.line + 1
                values[key] = value
        return values


def dump(data: Any) -> str:
    """Write plain data as YAML that `load` reads back equal.

    Blocks are indented by two; a mapping or list of one or two levels that fits into a line of 100 columns stands on
    it, and strings that would be read as another type are quoted. The order of keys is kept, and nothing is ever
    written as an alias.

    Args:
        data: mappings with string keys, lists, tuples (read back as lists), strings, numbers, booleans and None.

    Returns:
        The text, with a line break at its end.

    Raises:
        UserError: for what `load` would not read back, with its dotted path.

    Example:
        >>> print(dump({"mask": {"at": "end", "granularity": "2:4"}, "rounds": 1}), end="")
        mask: {at: end, granularity: 2:4}
        rounds: 1
    """
    problems = _unwritable(data, "", 0)
    if problems:
        raise UserError(problems)
    text = "\n".join(_block(data, FLOW_COLUMNS) if _is_nonempty(data) else [_flow(data)]) + "\n"
    if len(text.encode("utf-8")) > MAX_BYTES:
        raise UserError(_too_large(len(text.encode("utf-8"))))
    return text


def _is_nonempty(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 0


def _unwritable(value: Any, path: str, level: int) -> list[Problem]:
    if value is None or isinstance(value, bool | float):
        return []
    if isinstance(value, int):
        long = abs(value) >= 10**MAX_DIGITS
        return [Problem(path, f"an integer has at most {MAX_DIGITS} digits (got {shown(value)})")] if long else []
    if isinstance(value, str):
        found = _UNWRITABLE.search(value)
        return [Problem(path, f"a string cannot contain the character U+{ord(found[0]):04X}")] if found else []
    if not isinstance(value, Mapping | list | tuple):
        return [Problem(path, f"a {type(value).__name__} cannot be written as YAML")]
    if level == MAX_LEVELS:
        return [Problem(path, f"is nested too deeply: at most {MAX_LEVELS} levels are allowed")]
    problems = []
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            keyed = (
                _unwritable(key, path, 0)
                if isinstance(key, str)
                else [Problem(path, f"has the key {shown(key)}, which is not a string")]
            )
            problems.extend(keyed)
        problems.extend(_unwritable(item, below, level + 1))
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems


def _block(value: Any, room: int) -> list[str]:
    """The lines of a mapping or list that is not empty, in block style, within `room` columns where that can be."""
    lines: list[str] = []
    for key, item in value.items() if isinstance(value, Mapping) else ((None, item) for item in value):
        label = "-"
        if key is not None:
            written = _flow(key)
            label = f"{written}:" if len(written) <= _LONG_KEY else ":"
            lines.extend([f"? {written}"] if label == ":" else [])
        flow = _flow(item) if _levels(item, 3) < 3 else ""
        if flow and (not _is_nonempty(item) or len(label) + 1 + len(flow) <= room):
            lines.append(f"{label} {flow}")
            continue
        first, *rest = (f"  {line}" for line in _block(item, room - 2))
        lines.extend([label, first] if key is not None else [f"- {first[2:]}"])
        lines.extend(rest)
    return lines


def _levels(value: Any, most: int) -> int:
    """How deep the mappings and lists in `value` are nested, counted up to `most`."""
    if most == 0 or not _is_nonempty(value):
        return 0
    items = value.values() if isinstance(value, Mapping) else value
    return 1 + max(_levels(item, most - 1) for item in items)


def _flow(value: Any) -> str:
    """`value` on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and _reads_as_text(value) else _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if math.isfinite(value):
        return float.__repr__(value)
    return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"


def _reads_as_text(text: str) -> bool:
    return not any(pattern.fullmatch(text) for pattern, _ in _SCALARS)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(ord(c))) for c in text) + '"'


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
