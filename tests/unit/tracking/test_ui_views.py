"""The view of MLflow's page that belongs to a search, and what is imported when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from made_search import make_definition

from prune_search.ledger.records import read_search
from prune_search.tracking.ui_views import hole_paths, search_tags, table_link

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
    name, _ = names = list(search_tags(definition))
    view = json.loads(search_tags(definition)[name])
    assert [f"mlflow.sharedViewState.{one}" for one in _shown(definition["id"])] == names
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
    # The option of `any` is what people call the paradigm, and stands there once.
    assert "params.`paradigm`" in view["selectedColumns"]
    assert "tags.`paradigm`" not in view["selectedColumns"]
    # The name first, and wide enough for the longest; then all that is shown, once.
    assert view["columnOrder"][0] == "attributes.`Run Name`"
    assert sorted(view["columnOrder"][1:]) == sorted(view["selectedColumns"])
    assert view["columnWidths"]["attributes.`Run Name`"] >= 7 * len("012-learning-rate-rewinding-s0.90")
    assert view["runsHiddenMode"] == "FIRST_20_RUNS"


def test_charts_use_params_that_every_trial_has_and_logarithms_where_they_were_drawn(tmp_path: Path) -> None:
    definition = read_search(make_definition(tmp_path, "one", TEXT)).definition
    view = json.loads([*search_tags(definition).values()][1])
    assert "tags.`kind` = 'trial'" in view["searchFilter"]
    scatter, parallel, curves = view["compareRunCharts"]
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("best/sparsity", "best/val/loss")
    assert parallel["selectedParams"] == ["paradigm", "log10 train.optimizer.lr"]
    assert curves["metricKey"] == "val/loss"
    # What mattered most comes first.
    weighed = json.loads([*search_tags(definition, {"train.optimizer.lr": 0.7, "any": 0.3}).values()][1])
    assert weighed["compareRunCharts"][1]["selectedParams"] == ["log10 train.optimizer.lr", "paradigm"]


def _shown(identity: str) -> list[str]:
    """The views that the links of a search name."""
    links = [table_link(identity), table_link(identity, charts=True)]
    return [link.partition("viewStateShareKey=")[2].partition("&")[0] for link in links]


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
