"""What a finished run looks like in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prune_search.cli.summary import MAX_LAYERS, show_result
from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.mask.receipt import LayerReceipt, Receipt
from prune_search.recipe.space import read_space
from prune_search.trial.result import Result, RoundResult


def result(rounds: int = 1, layers: int = 2, kept: int = 10) -> Result:
    found = tuple(LayerReceipt(f"layer{n}", 100, kept, 100, kept) for n in range(layers))
    receipt = Receipt(0.9, 0.9, kept, kept, found)
    metrics = {"val/accuracy": 0.75, "val/loss": 1.0, "steps_trained": 20.0}
    flops = {f"train/{way}_flops_{kind}": 1e6 for way in ("forward", "backward") for kind in ("dense", "sparse")}
    return Result(
        recipe=read_space({"preset": "snip"}, "a test").only_recipe(),
        key="ab" * 32,
        paradigm="snip",
        masks=MaskSet({"layer0": torch.ones(2, dtype=torch.bool)}),
        tensors={},
        weights_sha256="cd" * 32,
        rounds=tuple(RoundResult(n, receipt, "0" * 64, metrics | flops) for n in range(1, rounds + 1)),
        test_metrics={"test/accuracy": 0.5},
        environment={},
        steps=(20, 10, 0),
        seconds=1.5,
    )


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_totals_metrics_digests_and_what_can_be_typed_next(capsys: pytest.CaptureFixture[str]) -> None:
    shown = result()
    show_result(shown, Path("ticket"))
    lines = capsys.readouterr().out.splitlines()
    assert "snip  key abababababababab" in lines
    assert "sparsity  requested 0.9000  reached 0.9000  collapsed layers 0" in lines
    assert "metrics   val/accuracy 0.7500  val/loss 1.0000  test/accuracy 0.5000" in lines
    assert "steps     trained 20  reused 10  in 1.5 s" in lines
    assert f"mask      {shown.masks.sha256}" in lines
    assert lines[-1] == "next      prune-search run ticket --verify"
    assert any(line.startswith("training  FLOPs dense ") and "sparse " in line for line in lines)


def test_rounds_are_a_table_where_there_are_several_and_many_layers_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(result(layers=MAX_LAYERS + 5), None)
    out = capsys.readouterr().out
    assert "rounds" not in out
    assert "… 5 more: --json" in out
    assert "written" not in out
    show_result(result(rounds=2), None)
    assert "rounds" in capsys.readouterr().out


def test_layers_with_nothing_left_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(result(kept=0), None)
    assert "2 layers have no weights left: no signal passes through them" in capsys.readouterr().out
