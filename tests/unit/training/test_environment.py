"""Devices, precisions and the environment class."""

from __future__ import annotations

import json

import pytest
import torch

from prune_search.recipe.problems import UserError
from prune_search.training.environment import PRECISIONS, autocast, environment_class, pick_device

CPU = torch.device("cpu")


def test_the_environment_class_names_what_results_depend_on() -> None:
    found = environment_class(CPU, "fp32", 2)
    assert found == {
        "torch": torch.__version__,
        "device": "cpu",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": 2,
        "precision": "fp32",
    }
    assert json.loads(json.dumps(found)) == found
    assert type(found["torch"]) is str


def test_the_environment_class_of_cuda_names_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    found = environment_class(torch.device("cuda:1"), "bf16", 1)
    assert (found["device"], found["capability"]) == ("cuda", "9.0 NVIDIA H200")


@pytest.mark.parametrize("text", [None, "auto"])
def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(text).type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(text) == CPU


def test_a_named_device_is_taken_where_it_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cpu") == CPU
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="'cuda:2' is not available: the CUDA devices are cuda:0 to cuda:1"):
        pick_device("cuda:2")


def test_cuda_without_a_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="'cuda' is not available"):
        pick_device("cuda")


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda:1:2", "cpu:0", "meta", "cuda:٣"])
def test_other_words_are_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(UserError, match="is not one of auto, cpu, cuda, cuda:N") as caught:
        pick_device(text)
    assert caught.value.problems[0].path == "device"


def test_precision_is_what_the_forward_pass_computes_in() -> None:
    weights = torch.ones(3, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        context = autocast(CPU, precision)
        for _ in range(2):  # every step asks for a context anew
            with context():
                assert (weights @ weights).dtype == dtype
    assert (weights @ weights).dtype == torch.float32


def test_every_precision_has_a_context_and_another_word_is_refused() -> None:
    for precision in PRECISIONS:
        with autocast(CPU, precision)():
            pass
    with pytest.raises(UserError, match="'fp16' is not one of bf16, fp32"):
        autocast(CPU, "fp16")
