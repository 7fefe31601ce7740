"""The HTML page: whole without a network, and nothing in a name runs."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from told_search import Told

from prune_search.report.compare import Question, compare_data
from prune_search.report.page import page


def data_of(storage: Path, question: Question | None = None) -> dict[str, Any]:
    told = Told.begin(storage)
    told.dense(0.98)
    told.trial("snip", 0.9, 0.94)
    told.trial("random", 0.5, 0.90)
    told.failed(0.7)
    return {**compare_data([told.records], question), "importance": []}


class Tags(HTMLParser):
    """Which elements a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_somebody_wrote_into_a_name_is_text(tmp_path: Path) -> None:
    data = data_of(tmp_path)
    evil = "<script>alert(1)</script>"
    data["rows"][0]["name"] = data["rows"][1]["search"] = evil
    data["searches"] = ["told", evil]
    text = page(data, {})
    scripts = [attrs for tag, attrs in Tags(text).found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "trials"}, {}], "the trials as data, and our own script"
    assert text.count("&lt;script&gt;") >= 4
    assert "alert(1)</script>" not in text.replace(evil, "") + text


def test_pictures_lie_in_the_page_and_nothing_is_fetched(tmp_path: Path) -> None:
    text = page(data_of(tmp_path), {"pareto": b"<svg/>"})
    (image,) = [attrs for tag, attrs in Tags(text).found if tag == "img"]
    source = image["src"] or ""
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
    # The name of SVG's elements is no address that is fetched.
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert text.index("<img") < text.index("Leaderboard"), "the long table comes last"


def test_the_page_names_the_best_and_how_to_take_it_along(tmp_path: Path) -> None:
    text = page(data_of(tmp_path), {})
    assert "Best: <strong>001-snip</strong>, val/accuracy 0.94" in text
    assert "prune-search export told --to DIR" in text
    assert '<tr class="quiet" data-i="2"><td>–</td>' in text, "what failed has no rank"
    assert "-0.0400" in text


def test_a_simulated_search_and_hidden_rows_are_said(tmp_path: Path) -> None:
    data = {**data_of(tmp_path, Question(only=("sparsity <= 0.8",))), "simulated": "closed-form"}
    text = page(data, {})
    assert "Simulated (closed-form): nothing was trained." in text
    assert "prune-search export" not in text
    assert "Shown: sparsity &lt;= 0.8. " in text


def test_a_search_without_a_trial_has_a_page(tmp_path: Path) -> None:
    data = {**compare_data([Told.begin(tmp_path).records]), "importance": []}
    text = page(data, {})
    assert "No trial has completed." in text
    assert "Leaderboard" not in text
