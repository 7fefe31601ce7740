"""What the card says of each form of the network that lies in the folder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prune_search.exports.card_loading import OnnxFile, loading
from prune_search.recipe.space import read_space


def said(costs: dict[str, Any], onnx: OnnxFile | None = None) -> str:
    result: Any = SimpleNamespace(recipe=read_space({"preset": "snip"}, "a test").only_recipe(), tensors={})
    return loading(result, costs, onnx, None)


def test_transformers_opens_the_compact_network_or_it_is_said_why_it_is_whole() -> None:
    saved = {"class": "AutoModelForCausalLM", "config": {"intermediate_size": [24, 10]}, "whole": ""}
    text = said({"huggingface": {**saved, "parameters": 12_345, "bytes": 49_380}})
    assert "intermediate_size 10 instead of 24 (12,345 parameters, 49.4 kB)" in text
    assert 'AutoModelForCausalLM.from_pretrained("huggingface")' in text
    text = said({"huggingface": {**saved, "config": {}, "whole": "it differs", "parameters": 1, "bytes": 4}})
    assert "the whole network, with zeros where weights are pruned, since it differs" in text


def test_a_program_says_what_it_takes() -> None:
    assert "eval mode, any batch\n" in said({"program": True, "program_batch": None, "program_length": None})
    fixed = said({"program": True, "program_batch": 2, "program_length": 16})
    assert "batches of 2 only: the network's code fixes them; texts of 16 only" in fixed
    assert "inputs `a`, `b`, output `y`, any batch; outputs within 1e-06" in said({}, OnnxFile(1e-6, ("a", "b")))
    assert "any batch; texts of 9 only" in said({}, OnnxFile(1e-6, ("x",), 9))
