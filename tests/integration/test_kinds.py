"""Built-in kinds of data and models, trained and pruned by recipes that name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

import prune_search
from prune_search.api.where import Where
from prune_search.recipe.problems import UserError

GPT = {"name": "hf-config/gpt2", "class": "causal-lm", "config": {"n_embd": 16, "n_layer": 1, "n_head": 2}}


def run(root: Path, data: Mapping[str, Any], model: Any, preset: str = "snip", **train: Any) -> Any:
    recipe = {
        "preset": preset,
        "task": {"data": data, "model": model},
        "train": {"steps": "2ep", "batch": 8, **train},
        **({"retrain": {"steps": "4it", "clock": {"hold": 0.001}}} if preset == "fine-tune" else {}),
    }
    return prune_search.run(recipe, set={"mask.sparsity": 0.5}, where=Where(root, root / "store", device="cpu"))


@pytest.mark.slow
def test_a_table_is_learnt_as_classes_and_as_numbers(tmp_path: Path) -> None:
    rows = [f"{n % 7},{'pq'[n % 2]},{'yes' if n % 7 > 3 else 'no'},{n % 7 / 2}" for n in range(160)]
    (tmp_path / "t.csv").write_text("\n".join(["size,kind,answer,half", *rows]))
    data: dict[str, Any] = {"name": "table", "file": "t.csv", "target": "answer", "drop": ["half"]}
    assert run(tmp_path, data, "mlp").metrics["val/accuracy"] > 0.8
    data = {"name": "table", "file": "t.csv", "target": "half", "drop": ["answer"], "task": "regression", "split": 0.2}
    result = run(tmp_path, {**data, "scale_target": True}, "mlp", optimizer={"lr": 0.01})
    assert result.metrics["val/r2"] > 0.5
    assert {"val/rmse", "test/rmse", "test/r2"} <= {*result.metrics, *result.test_metrics}


@pytest.mark.slow
def test_workers_that_decode_and_augment_make_the_same_network(tmp_path: Path) -> None:
    draw = numpy.random.default_rng(0)
    for label, kind in enumerate(("dark", "light")):
        (tmp_path / "shades" / kind).mkdir(parents=True)
        for index in range(30):
            levels = draw.integers(0, 120, (12, 16, 3), dtype=numpy.uint8) + numpy.uint8(100 * label)
            Image.fromarray(levels).save(tmp_path / "shades" / kind / f"{index}.png")
    data = {"name": "image-folder", "folder": "shades", "size": 8, "augment": ["crop", "flip", "randaugment"]}
    results = [
        run(tmp_path / str(n), {**data, "folder": str(tmp_path / "shades"), "workers": n}, "small-conv") for n in (0, 2)
    ]
    assert results[0].weights_sha256 == results[1].weights_sha256
    assert results[0].metrics["val/accuracy"] > 0.6


@pytest.mark.slow
def test_a_language_model_learns_characters_and_a_stored_one_is_never_drawn_anew_unasked(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="builds the networks")
    from prune_search.recipe.axes import MODELS

    (tmp_path / "a.txt").write_text("abcdefgh" * 300)
    data: dict[str, Any] = {"name": "text", "files": "a.txt", "length": 16}
    adam = {"name": "adam", "lr": 0.01}
    result = run(tmp_path, data, GPT, optimizer=adam, steps="60it")
    assert result.metrics["val/perplexity"] < 6
    network: Any = MODELS["hf-config/gpt2"].make(
        (16,), 8, **{key: value for key, value in GPT.items() if key != "name"}
    )
    network.save_pretrained(str(tmp_path / "net"))
    with pytest.raises(UserError, match=r"task.model: hf/net comes with trained weights, and train.init kaiming would"):
        run(tmp_path, data, "hf/net", init="kaiming")
    pruned = run(tmp_path, data, "hf/net", "fine-tune", **{"from": "model", "optimizer": adam})
    assert pruned.receipt.reached == pytest.approx(0.5, abs=0.01)
