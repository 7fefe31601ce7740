"""ONNX files are kept only where onnxruntime agrees with torch; the exporter itself is replaced by a copy of bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prune_search.exports import onnx_file
from prune_search.exports.onnx_file import ONNX_FILE, check_installed, relative_difference, write_onnx
from prune_search.recipe.problems import UserError

MODEL = nn.Linear(3, 2).eval()
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def off_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """Let onnxruntime's outputs be those of torch and an error on top; the sizes of batches that it is given."""

    def put(error: float) -> list[int]:
        sizes: list[int] = []

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            sizes.append(len(inputs["x"]))
            out: Tensor = MODEL(inputs["x"]).detach()
            return out * (1 + error)

        monkeypatch.setattr(onnx_file, "check_installed", lambda: None)
        monkeypatch.setattr(onnx_file, "onnx_bytes", lambda model, inputs: b"onnx")
        monkeypatch.setattr(onnx_file, "runner", lambda path: run)
        return sizes

    return put


def test_several_sizes_of_batches_are_compared(tmp_path: Path, off_by: Callable[[float], list[int]]) -> None:
    sizes = off_by(1e-6)
    assert write_onnx(MODEL, tmp_path, X) == pytest.approx(1e-6, rel=0.2)
    assert sizes == [1, 3, 5]
    assert (tmp_path / ONNX_FILE).read_bytes() == b"onnx"


@pytest.mark.parametrize("error", [0.01, float("nan")])
def test_a_file_that_computes_something_else_is_not_left(
    tmp_path: Path, off_by: Callable[[float], list[int]], error: float
) -> None:
    off_by(error)
    with pytest.raises(UserError, match="onnxruntime and torch differ"):
        write_onnx(MODEL, tmp_path, X)
    assert not (tmp_path / ONNX_FILE).exists()


def test_what_the_exporter_refuses_is_said_of_the_option(
    tmp_path: Path, off_by: Callable[[float], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    off_by(0.0)

    def refuse(model: nn.Module, inputs: Tensor) -> bytes:
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(onnx_file, "onnx_bytes", refuse)
    with pytest.raises(UserError, match=r"--onnx: .*no such operator\)$"):
        write_onnx(MODEL, tmp_path, X)


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=r"needs onnxscript: pip install 'prune-search\[onnx\]'"):
        check_installed()


def test_differences_are_relative_to_the_largest_output() -> None:
    assert relative_difference(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0])) == 0.25
    assert relative_difference(torch.tensor([0.5]), torch.tensor([0.0])) == 0.5
