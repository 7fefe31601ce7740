"""What mattered is written down for all trials of a search, and read again; of little there is nothing."""

from __future__ import annotations

from pathlib import Path

from prune_search.tracking.hole_weights import WEIGHTS_FILE, keep_weights, weights_in


def test_the_shares_over_all_trials_come_back(tmp_path: Path) -> None:
    assert weights_in(tmp_path) == {}
    over_all = {"sparsity": None, "option": None, "knobs": {"rounds": 0.75, "any": 0.25}}
    band = {"sparsity": [0.9, 0.95], "option": None, "knobs": {"rounds": 1.0}}
    option = {"sparsity": None, "option": "snip", "knobs": {"train.optimizer.lr": 1.0}}
    keep_weights(tmp_path, [band, option, over_all])
    assert weights_in(tmp_path) == {"rounds": 0.75, "any": 0.25}


def test_of_too_few_trials_nothing_is_written_and_what_is_no_share_is_left_out(tmp_path: Path) -> None:
    keep_weights(tmp_path, [{"sparsity": None, "option": None, "knobs": {}, "why": "3 trials have completed"}])
    assert not (tmp_path / WEIGHTS_FILE).exists()
    (tmp_path / WEIGHTS_FILE).write_text('{"rounds": 0.5, "any": "most"}')
    assert weights_in(tmp_path) == {"rounds": 0.5}
    (tmp_path / WEIGHTS_FILE).write_text("[")
    assert weights_in(tmp_path) == {}
