"""The shared tree of a search: every segment once, however many trials need it."""

from __future__ import annotations

from pathlib import Path

from told_search import Told

from prune_search.ledger.records import Recorder
from prune_search.report.tree_picture import TreeNode, grow, tree_figure


def leaves(node: TreeNode) -> list[TreeNode]:
    below = [leaf for child in node.children.values() for leaf in leaves(child)]
    return below or [node]


def test_trials_that_begin_alike_share_their_first_segment(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("magnitude-after-training", 0.9, 0.95)
    told.trial("magnitude-after-training", 0.5, 0.96)
    told.trial("magnitude-after-training", 0.5, 0.96, seed=1)
    root = grow(told.records)
    first, second = root.children.values()
    assert [len(node.users) for node in (first, second)] == [2, 1]
    assert first.steps == second.steps > 0
    assert len(leaves(root)) == 3
    assert sorted(name for leaf in leaves(root) for name in leaf.ends) == sorted(
        trial.proposed.data["name"] for trial in told.records.numbered() if trial.proposed is not None
    )


def test_what_was_repeated_or_is_of_another_version_is_not_drawn(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    assert tree_figure(told.records) is None
    first = told.trial("snip", 0.9, 0.95)
    told.trial("snip", 0.9, 0.95, twin=first, status="duplicate")
    newer = {**told.records.trials[first].recipe, "schema": 99}
    Recorder(told.folder, "000009").write("proposed", {"number": 9, "name": "009", "recipe": newer})
    (only,) = grow(told.records).children.values()
    assert set(only.users) == {"001-snip"}


def test_the_title_says_what_sharing_saved(tmp_path: Path) -> None:
    told = Told.begin(tmp_path, "monday")
    told.trial("snip", 0.9, 0.95)
    told.trial("random", 0.9, 0.9)
    figure = tree_figure(told.records)
    assert figure is not None
    assert figure.axes[0].get_title(loc="left") == "monday: 120 steps trained, 80 saved (1.67 times fewer)"
