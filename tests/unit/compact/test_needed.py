"""What a runtime needs and is not here is named, and metrics that ask for it are refused before anything is trained."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from prune_search.compact.needed import ONNX_PACKAGES, lacks_compiler, lacks_onnx
from prune_search.recipe.problems import UserError
from prune_search.trial.metrics import check_asked


def test_packages_that_are_not_installed_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    assert lacks_onnx() == "onnxscript (pip install 'prune-search[onnx]')"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert lacks_onnx() == ""
    assert len(ONNX_PACKAGES) == 3


def test_the_compiler_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert lacks_compiler() == "the C++ compiler no-such-compiler"
    monkeypatch.setenv("CXX", "sh")
    assert lacks_compiler() == ""


def test_what_needs_it_is_refused_in_one_sentence(setup_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    setup = setup_of({"preset": "snip", "train": {"steps": "2it"}})
    with pytest.raises(UserError) as refused:
        check_asked(setup, ["val/accuracy", "latency/batch-1", "latency/compiled-batch-64"])
    (problem,) = refused.value.problems
    needs = "latency/compiled-batch-64 needs the C++ compiler no-such-compiler, which is not here"
    assert str(problem) == f"search.objectives: {needs}"
