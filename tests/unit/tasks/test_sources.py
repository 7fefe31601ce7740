"""The text of code and settings changes with what it does, and with nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch

from prune_search.tasks.sources import bare, captured, described, enclosed, source, source_file


def factory(width: int = 3, *, depth: int = 1) -> tuple[int, int]:
    return width, depth


def holding(value: Any) -> Callable[[], Any]:
    """A function that encloses a value."""

    def held() -> Any:
        return value

    return held


def kind_of(value: Any) -> type:
    """A class that is made in a function."""

    class Made:
        setting = 1

        def method(self) -> Any:
            return value

    return Made


@dataclass(frozen=True)
class Options:
    width: int
    rate: float


class Opaque:
    """Of which only the type counts."""


def test_wrappers_partials_and_methods_lead_to_the_function() -> None:
    @functools.wraps(factory)
    def wrapper(*given: Any) -> Any:
        return factory(*given)

    assert bare(functools.partial(functools.partial(wrapper, 1), 2)) is factory
    assert bare(Opaque()) is Opaque
    assert source_file(functools.partial(factory, 4)) == __file__
    assert "def holding(value" in source(factory), "all of the file counts"


def test_what_a_callable_carries_changes_its_text() -> None:
    texts = [captured(functools.partial(factory, width)) for width in (1, 2)]
    texts += [captured(holding(value)) for value in (1, 2, [1], holding(1))]
    assert len(set(texts)) == len(texts)
    assert captured(holding([1, 2])) == captured(holding([1, 2]))


def test_a_class_made_in_a_function_carries_what_its_methods_enclose() -> None:
    assert enclosed(kind_of(1)) == enclosed(kind_of(1))
    assert enclosed(kind_of(1)) != enclosed(kind_of(2))
    assert enclosed(Opaque) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        ([1, 2], (1, 2)),
        (numpy.zeros(2, "f4"), numpy.zeros(2, "f8")),
        (torch.zeros(2), torch.ones(2)),
        (Options(1, 0.1), Options(1, 0.2)),
        (SimpleNamespace(a=1), SimpleNamespace(a=2)),
        ({"a": 1}, {"a": 2}),
        (int, str),
        (holding(1), holding(2)),
    ],
)
def test_settings_that_differ_have_other_texts(one: Any, other: Any) -> None:
    assert described(one) != described(other)


def test_no_text_holds_an_address_or_an_order_by_chance() -> None:
    assert described(Opaque()) == described(Opaque()) == "Opaque"
    assert described({"b", "a"}) == described({"a", "b"}) == "set[\"'a'\", \"'b'\"]"
    endless: list[Any] = []
    endless.append(endless)
    assert described(endless).count("list") < 10
    for value in (factory, holding(Opaque()), kind_of(1), [Opaque()], torch.relu):
        assert " at 0x" not in described(value)


def test_code_without_a_file_is_told_by_its_bytecode(tmp_path: Path) -> None:
    def typed(text: str) -> Any:
        names: dict[str, Any] = {"__name__": "typed"}
        exec(compile(text, str(tmp_path / "gone.py"), "exec"), names)
        return names["f"]

    one, again, other = (typed(f"def f(x): return x + {number}") for number in (1, 1, 2))
    assert source(one) == source(again)
    assert source(one) != source(other)
