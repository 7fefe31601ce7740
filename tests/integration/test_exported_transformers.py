"""A vision transformer through a whole trial: exported, and opened where this package cannot be imported."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import prune_search
from prune_search import Where

pytestmark = pytest.mark.slow
VIT = {
    "name": "hf-config/vit",
    "class": "image-classification",
    "config": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "patch_size": 4,
    },
}
ADAM = {"name": "adam", "lr": 1.0e-3}
RECIPE: dict[str, Any] = {
    "task": {"data": "digits", "model": VIT},
    "train": {"steps": "40it", "batch": 64, "optimizer": ADAM, "init": "as-built"},
    "mask": {"at": "end", "criterion": "l1", "scope": "uniform", "granularity": "channel", "sparsity": 0.5},
    "weights": {"at": "end"},
    "retrain": {"steps": "20it", "clock": {"hold": 1.0e-3}, "lora": {"rank": 2}},
}
OPEN = """
import sys, torch
sys.modules["prune_search"] = None
given = torch.load(sys.argv[2], weights_only=True)
if sys.argv[1].endswith(".pt2"):
    network = torch.export.load(sys.argv[1]).module()
    found = network(given["inputs"])
else:
    import transformers
    network = transformers.AutoModelForImageClassification.from_pretrained(sys.argv[1])
    found = network(given["inputs"]).logits
print(float((found - given["logits"]).abs().max() / given["logits"].abs().max()))
print(sum(one.numel() for one in network.parameters()))
"""


def opened_elsewhere(path: Path, given: Path) -> tuple[float, int]:
    words = [sys.executable, "-c", OPEN, str(path), str(given)]
    apart, parameters = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(apart), int(parameters)


@pytest.mark.filterwarnings("ignore:.*are not pruned")
def test_what_channels_leave_of_a_vision_transformer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("transformers")
    folder, where = tmp_path / "exported", Where(storage=tmp_path / "store")
    result = prune_search.run(RECIPE, where=where, out=folder)
    exported = prune_search.export(str(folder), to=folder, where=where)
    assert exported.result.weights_sha256 == result.weights_sha256
    assert exported.result.receipt.reached == pytest.approx(0.5, abs=0.1)
    sizes, saved = exported.costs["sizes"], exported.costs["huggingface"]
    # Channels went within every head, which the configuration has no size for.
    assert "no value of the configuration changes dimension" in saved["whole"]
    assert saved["parameters"] == sizes["dense parameters"] > sizes["compact parameters"]
    card = (folder / "README.md").read_text()
    assert f"the whole network, with zeros where weights are pruned, since {saved['whole']}" in card
    with caplog.at_level(logging.WARNING):
        loaded = prune_search.load(folder)
    assert loaded.compact is None
    assert "pass trusted=True" in caplog.text
    small = prune_search.load(folder, trusted=True).network()
    inputs = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        expected: Any = loaded.model(inputs)
        assert torch.allclose(small(inputs), expected.logits, atol=1e-5)
    assert sum(one.numel() for one in small.parameters()) == sizes["compact parameters"]
    given = tmp_path / "given.pt"
    torch.save({"inputs": inputs, "logits": expected.logits}, given)
    apart, parameters = opened_elsewhere(folder / "program.pt2", given)
    assert (apart <= 1e-5, parameters) == (True, sizes["compact parameters"])
    apart, parameters = opened_elsewhere(folder / "huggingface", given)
    assert (apart <= 1e-5, parameters) == (True, saved["parameters"])
