"""Checks of every entry of every axis: it has a description, and accepts the options that it declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prune_search.recipe.fields import Value
from prune_search.recipe.reading import BAD
from prune_search.recipe.registry import REQUIRED, Axis, Declared, Entry, Made, Option
from prune_search.testing.checked import Checked, entry_of, read, reading


def check_entry(axis: Axis[Declared, Made], name: str, options: Mapping[str, object] | None = None) -> Checked:
    """A summary in one line, a docstring, options that are described, and values that read as themselves.

    Args:
        axis: that it stands on.
        name: of the entry.
        options: to check it with, by key; those that have no default must be among them.

    Raises:
        AssertionError: something does not hold.
    """
    entry = entry_of(axis, name)
    for key, option in entry.options.items():
        _check_option(entry, key, option)
    missing = [
        key for key, option in entry.options.items() if option.default is REQUIRED and key not in (options or {})
    ]
    if missing:
        raise AssertionError(f"{axis.name} {name!r} must be checked with a value for {', '.join(missing)}")
    one = Checked.of(axis, name, options)
    one.require(entry.axis == axis.name, f"it says that it is registered on axis {entry.axis!r}")
    summary = entry.summary
    one.require(summary and summary == summary.strip(), "its summary is empty, or begins or ends with a space")
    one.require("\n" not in summary, "its summary has more than one line")
    one.require((entry.make.__doc__ or "").strip(), "its function has no docstring")
    one.require(type(entry.facts) is axis.facts, f"its facts are not a {axis.facts.__name__}")
    written = one.named.written
    one.require(read(axis, written).written == written, "its canonical form changes when it is read again")
    one.require(json.loads(json.dumps(written)) == written, "its canonical form is not plain data")
    told = reading()
    found = Value(axis).read({"name": name, "no-such-option": 1}, "x", told)
    refused = found is BAD and any("no-such-option" in problem.path for problem in told.problems)
    one.require(refused, "an option that it does not have is not refused by name")
    return one


def _check_option(entry: Entry[Declared, Made], key: str, option: Option) -> None:
    """It is described, takes its default, and refuses what is none of its values."""

    def require(holds: object, sentence: str) -> None:
        if not holds:
            raise AssertionError(f"{entry.axis} {entry.name!r}, option {key!r}: {sentence}")

    require(option.field.describe().strip(), "its field does not describe its values")
    told = reading()
    wrong: Any = {"neither": ["this", "nor", "that"]}
    refused = option.field.read(wrong, key, told) is BAD and told.problems
    require(refused, f"it takes {wrong!r}, which is not one of its values")
    if option.default is REQUIRED or option.default is None:
        return
    told = reading()
    value = option.field.read(option.default, key, told)
    require(value is not BAD and not told.problems, f"it refuses its own default {option.default!r}")
    require(
        option.field.read(value, key, told) == value, "what it reads from its default changes when it is read again"
    )
