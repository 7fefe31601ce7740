"""README's example for notebooks runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from real_mlflow import MLFLOW_WARNINGS

pytestmark = MLFLOW_WARNINGS

README = Path(__file__).parents[2] / "README.md"
TRIALS = '{"search.trials": 6}'
# The same, with less training.
SHORT = '{"search.trials": 2, "train.steps": "2ep", "search.controls": False}'


def example() -> str:
    """The Python of README."""
    (code,) = re.findall(r"In Python:\n\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@pytest.mark.parametrize("shorter", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_example_for_notebooks(
    trouble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shorter: bool
) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNE_SEARCH_STORAGE", raising=False)
    code = example()
    assert TRIALS in code
    names: dict[str, object] = {}
    exec(compile(code.replace(TRIALS, SHORT if shorter else TRIALS), "README.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    sparsity, accuracy, mask = said[0].split()
    assert (float(sparsity), len(mask)) == (0.9, 64)
    assert 0.1 < float(accuracy) <= 1.0
    # The name of the best trial, which is the one that was exported.
    assert re.fullmatch(r"00\d-[a-z-]+-s0\.9\d", said[1])
    assert f"trial `{said[1]}`" in (tmp_path / "best" / "README.md").read_text()
    network = names["network"]
    assert isinstance(network, torch.nn.Module)
    assert not network.training
