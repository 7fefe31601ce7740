"""The view of MLflow's page that belongs to a search, and what is imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from made_search import make_definition

from prune_search.ledger.records import read_search
from prune_search.tracking.ui_views import hole_paths, table_tag

TEXT = """\
train: {optimizer: {name: sgd, lr: {hole: loguniform, low: 0.01, high: 1.0}}}
any:
- {preset: snip, mask: {sparsity: {hole: uniform, low: 0.5, high: 0.98}}}
- preset: lottery-ticket
  rounds: {hole: int, low: 1, high: 8}
  weights: {at: {hole: choice, of: [0it, end]}}
search: {trials: 80, objectives: [minimize val/loss, maximize sparsity], constraints: [val/accuracy >= 0.9]}
"""


def test_the_view_shows_what_the_search_looks_at_best_first(tmp_path: Path) -> None:
    definition = read_search(make_definition(tmp_path, "one", TEXT)).definition
    ((name, text),) = table_tag(definition).items()
    view = json.loads(text)
    assert name == f"mlflow.sharedViewState.{definition['id']}"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best/val/loss`", True)
    assert f"'{definition['id']}'" in view["searchFilter"]
    assert view["selectedColumns"][:5] == [
        "metrics.`best/val/loss`",
        "metrics.`best/sparsity`",
        "metrics.`best/val/accuracy`",
        "metrics.`steps_trained`",
        "metrics.`steps_saved`",
    ]
    assert "params.`any`" in view["selectedColumns"]
    # The name first, and wide enough for the longest; then all that is shown, once.
    assert view["columnOrder"][0] == "attributes.`Run Name`"
    assert sorted(view["columnOrder"][1:]) == sorted(view["selectedColumns"])
    assert view["columnWidths"]["attributes.`Run Name`"] >= 7 * len("012-learning-rate-rewinding-s0.90")
    assert view["runsHiddenMode"] == "FIRST_20_RUNS"


def test_charts_use_params_that_every_trial_has_and_logarithms_where_they_were_drawn(tmp_path: Path) -> None:
    definition = read_search(make_definition(tmp_path, "one", TEXT)).definition
    scatter, parallel, curves = json.loads(next(iter(table_tag(definition).values())))["compareRunCharts"]
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("best/sparsity", "best/val/loss")
    assert parallel["selectedParams"] == ["any", "log10 train.optimizer.lr"]
    assert curves["metricKey"] == "val/loss"


def test_holes_are_named_like_the_params(tmp_path: Path) -> None:
    options = read_search(make_definition(tmp_path, "one", TEXT)).definition["space"]["options"]
    assert hole_paths(options)[0] == "any"
    assert sorted(hole_paths(options)) == ["any", "mask.sparsity", "rounds", "train.optimizer.lr", "weights.at"]


def test_mlflow_is_imported_only_when_it_is_connected_to() -> None:
    code = (
        "import sys\nimport prune_search.tracking.delivery_thread, prune_search.tracking.project\n"
        "import prune_search.tracking.store\n"
        "print([name for name in ('mlflow', 'ray', 'optuna', 'torch', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
