"""One-shot pruning of language models: a tiny one through a whole trial, and SmolLM2-135M against published figures."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from prune_search.recipe.space import read_space
from prune_search.trial.run import run_trial
from prune_search.trial.setup import prepare

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "language_model.py"
SMOLLM2 = os.environ.get("PRUNE_SEARCH_SMOLLM2", "")
TEXT = Path(os.environ.get("PRUNE_SEARCH_DATA", "")) / "tinyshakespeare" / "input.txt"
LLAMA = {
    "name": "hf-config/llama",
    "class": "causal-lm",
    "config": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
    },
}


@pytest.mark.slow
def test_a_recipe_prunes_block_by_block_and_measures_the_perplexity(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    book = tmp_path / "book.txt"
    book.write_text("The quick brown fox jumps over the lazy dog, and nobody minds. " * 60, encoding="utf-8")
    scores = {"calibration": {"examples": 8, "length": 12}, "mode": "eval"}
    for preset, scope in (("wanda", "owl"), ("sparsegpt", "ramp")):
        raw: dict[str, Any] = {
            "preset": preset,
            "task": {"data": {"name": "text", "files": [str(book)], "length": 16}, "model": LLAMA},
            "mask": {"score": scores, "scope": {"name": scope, "order": "blocks"}},
        }
        result = run_trial(prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu")), None)
        assert result.paradigm == preset
        assert result.receipt.blocks == "model.layers: 3 of LlamaDecoderLayer"
        assert result.receipt.units_kept == result.receipt.units_asked
        assert result.metrics["val/perplexity"] > 1
        assert result.as_data()["blocks"] == result.receipt.blocks


def _benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("language_model", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2, reason="set PRUNE_SEARCH_SMOLLM2 to the folder or GGUF file of SmolLM2-135M")
@pytest.mark.skipif(not TEXT.is_file(), reason="needs tinyshakespeare below PRUNE_SEARCH_DATA")
@pytest.mark.parametrize(("choice", "published"), [("dense", 30.93), ("wanda", 52.2), ("sparsegpt", 45.7)])
def test_smollm2_has_the_perplexity_of_a_reference_in_plain_torch(choice: str, published: float) -> None:
    found = _benchmark().measured(SMOLLM2, str(TEXT), None, choice, "ours")
    assert found["perplexity"] == pytest.approx(published, rel=0.01)
    assert choice == "dense" or found["sparsity"] == pytest.approx(0.5, abs=1e-4)
