"""A search in a real kernel of Jupyter: what is drawn while it runs, what an interrupt leaves, and the frame."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import kernel_cells
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.xdist_group("head")]

SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: STEPS, batch: 128, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}
preset: snip
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}
search: {trials: 2, concurrency: 1, controls: false}
"""
CELLS = [
    {"code": "import prune_search; where = prune_search.Where(storage='store')"},
    {"code": "found = prune_search.launch('short.yaml', where=where)"},
    {"code": "found"},
    {"code": "found.frame()[['trial', 'status', 'val/accuracy', 'sparsity']]"},
    {
        "code": "stopped = prune_search.launch('endless.yaml', where=where)",
        "interrupt": "store/searches/endless/trials/*/*",
    },
    {"code": "stopped"},
    {"code": "prune_search.compare('short', where=where)['rows'][0]['name']"},
]


def test_a_search_is_drawn_interrupted_and_given_back_as_a_frame(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text(SPACE.replace("STEPS", "3ep"))
    (tmp_path / "endless.yaml").write_text(SPACE.replace("STEPS", "100000ep"))
    done = subprocess.run(
        [sys.executable, kernel_cells.__file__],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    _, launched, shown, frame, _, stopped, compared = told = json.loads(done.stdout)
    # An interrupted search ends as it does elsewhere, with what there is: no cell fails, and the kernel lives on.
    assert [(cell["status"], cell["error"]) for cell in told] == [("ok", "")] * len(CELLS)
    # One display is drawn again and again: a bar that is full at the end, and the best trials.
    assert 'value="2" max="2"' in launched["drawn"][-1]
    assert "<table>" in launched["drawn"][-1]
    assert "2 of 2" in shown["drawn"][-1]
    assert frame["drawn"][-1].count("completed") == 2
    assert "Interrupted. prune_search.resume(&#x27;endless&#x27;) continues it." in stopped["drawn"][-1]
    assert "-snip-" in compared["drawn"][-1]
