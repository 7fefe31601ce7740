"""The tensor among a network's outputs."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from prune_search.tasks.outputs import logits_of

LOGITS, OTHER = torch.ones(2, 3), torch.zeros(2, 8)


@dataclass
class Outputs:
    scores: Tensor
    loss: float | None = None


def test_the_logits_are_found_in_every_form_of_outputs() -> None:
    pair = namedtuple("pair", ["hidden", "logits"])
    for outputs in (
        LOGITS,
        SimpleNamespace(logits=LOGITS, hidden=OTHER),
        {"hidden": OTHER, "logits": LOGITS},
        OrderedDict(prediction=LOGITS, loss=None),
        pair(OTHER, LOGITS),
        SimpleNamespace(scores=LOGITS, loss=None),
        Outputs(LOGITS),
        (LOGITS,),
        [LOGITS, None],
    ):
        assert logits_of(outputs) is LOGITS, type(outputs)


def test_outputs_without_one_clear_tensor_are_refused_with_what_they_have() -> None:
    for outputs, said in (
        ({"a": LOGITS, "b": OTHER}, r"dict with 2 tensors \(a, b\)"),
        ((LOGITS, OTHER), r"tuple with 2 tensors \(0, 1\)"),
        (None, "NoneType with no tensor"),
        ({"loss": 1.0}, "dict with no tensor"),
        (3.0, "float with no tensor"),
    ):
        with pytest.raises(TypeError, match=said):
            logits_of(outputs)
