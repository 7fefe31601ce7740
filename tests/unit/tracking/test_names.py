"""Names and values as MLflow takes them."""

from __future__ import annotations

from prune_search.tracking.names import MAX_NAME, MAX_PARAM, allowed, allowed_params, cut, written


def test_a_name_keeps_what_mlflow_takes_and_is_no_other_path() -> None:
    assert allowed("val/accuracy") == "val/accuracy"
    assert allowed("train.optimizer.lr") == "train.optimizer.lr"
    assert allowed("a=b?") == "a_b_"
    for name in ("../x", "/x", "a//b", "a/../b", ".", "..", ""):
        found = allowed(name)
        assert found
        assert "/" not in found
        assert found.strip(".")
    assert len(allowed("x" * 1000)) == MAX_NAME


def test_params_that_would_be_one_name_are_told_apart() -> None:
    found = allowed_params([("a?", "1"), ("a!", "2"), ("a_", "3"), ("long", "x" * (MAX_PARAM + 1))])
    assert [found[name] for name in ("a_", "a_-2", "a_-3")] == ["1", "2", "3"]
    assert len(found["long"]) == MAX_PARAM
    assert found["long"].endswith("…")
    twice = allowed_params([("x" * 1000, "1"), ("x" * 1001, "2")])
    assert len(twice) == 2
    assert all(len(name) <= MAX_NAME for name in twice)


def test_values_are_written_as_a_recipe_writes_them() -> None:
    assert [written(value) for value in (None, True, False, 0.1, 3, "2ep")] == [
        "null",
        "true",
        "false",
        "0.1",
        "3",
        "2ep",
    ]
    assert float(written(0.1 + 0.2)) == 0.1 + 0.2
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
