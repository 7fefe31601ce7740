"""What the page is given to work with: recipes, curves, styles, and one script that its policy names."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from told_search import Told

from prune_search.report.compare import compare_data
from prune_search.report.explorer import curve_of, details_of, explorer, flat, script, script_hash
from prune_search.report.page import page


def content_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="trials">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_a_recipe_is_flat_and_lists_are_text() -> None:
    assert flat({"mask": {"at": "end", "scope": {"exclude": ["a"]}}, "rounds": 1, "x": {}}) == {
        "mask.at": "end",
        "mask.scope.exclude": '["a"]',
        "rounds": 1,
        "x": "{}",
    }


def test_a_curve_has_the_last_point_and_not_too_many(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    number = told.trial("snip", 0.9, 0.95)
    trial = told.records.trials[number]
    rounds = [{"metrics": {"steps_trained": 10 * n, "val/accuracy": n / 200}} for n in range(200, 0, -1)]
    assert trial.ended is not None
    trial.ended.data["result"]["rounds"] = rounds
    curve = curve_of(trial, "val/accuracy")
    assert curve[0] == [10.0, 0.005]
    assert curve[-1] == [2000.0, 1.0]
    assert len(curve) <= 61
    assert curve_of(trial, "val/f1") == []


def test_the_page_has_every_row_with_its_recipe_and_a_style_for_each_paradigm(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.dense(0.98)
    for preset, sparsity, accuracy in (("snip", 0.9, 0.94), ("random", 0.5, 0.9)):
        told.trial(preset, sparsity, accuracy)
    told.failed(0.7)
    searches = [told.records]
    data = compare_data(searches)
    data |= {"importance": [], "details": details_of(searches, data["rows"], "val/accuracy")}
    content = content_of(page(data, {}))
    assert [trial["name"] for trial in content["trials"]] == [row["name"] for row in data["rows"]]
    assert content["trials"][0]["recipe"]["mask.criterion"] == "snip"
    assert (content["x"], content["y"], content["dense"]["val/accuracy"]) == ("sparsity", "val/accuracy", 0.98)
    colours = {style["colour"] for style in content["styles"].values()}
    assert set(content["styles"]) == {"snip", "random"}
    assert len(colours) == 2


def test_the_policy_names_the_script_that_is_in_the_page(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.94)
    told.trial("random", 0.5, 0.9)
    text = page({**compare_data([told.records]), "importance": []}, {})
    inside = text.rpartition("<script>")[2].partition("</script>")[0]
    assert inside == script()
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert script_hash() in text


def test_of_a_single_row_there_is_nothing_to_explore(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.94)
    assert explorer({**compare_data([told.records]), "importance": []}) == ""
