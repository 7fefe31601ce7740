"""`prune-search launch`: what is wrong is said before anything starts, and what was typed reaches the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Typed
from real_search import SMALL

from prune_search.cli.launch import surface_written
from prune_search.recipe.problems import UserError
from prune_search.simulation.surface import DEFAULT

SPACE = f"""\
# prune-search launch tiny.yaml
{SMALL}
any:
- {{preset: snip, mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}}}
- {{preset: random, mask: {{sparsity: {{hole: uniform, low: 0.5, high: 0.9}}}}}}
search: {{trials: 3, concurrency: 2, constraints: ["model/nonzero <= 0.8 * dense"]}}
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "wrong.yaml",
            SPACE.replace("preset: snip", "preset: snipp").replace("trials: 3", "trials: none, samplr: tpe"),
            ["'snipp' is not one of", "search.trials", "search.samplr"],
        ),
        ("plain.yaml", "preset: snip\n", ["has no holes", "prune-search run"]),
        (
            "data.yaml",
            SPACE.replace("data: digits", "data: fashion-mnist").replace("hidden: [16]", "hidden: [16]"),
            ["task.data", "fashion-mnist"],
        ),
        (
            "gp.yaml",
            SPACE.replace("trials: 3", "trials: 3, sampler: gp"),
            ["search.sampler: gp learns only from holes that every trial has"],
        ),
    ],
)
def test_what_is_wrong_is_said_before_ray_is_started(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: list[str]
) -> None:
    monkeypatch.delenv("PRUNE_SEARCH_DATA", raising=False)
    monkeypatch.setattr("prune_search.api.search._run", None)
    (tmp_path / name).write_text(text)
    said = typed("launch", str(tmp_path / name))
    assert (said.code, said.out) == (2, "")
    for words in expected:
        assert words in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "searches").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("launch", "quikstart"), "did you mean 'quickstart'?"),
        (("launch", "missing.yaml"), "missing.yaml"),
        (("launch", "snip"), "has no holes"),
        (("launch", "quickstart", "--name", "../x"), "'../x' is not allowed"),
        (("launch", "quickstart", "--tracking-uri", "ftp://x"), "--tracking-uri"),
        (("launch", "quickstart", "--trials", "0"), "search.trials"),
        (("resume", "nothing"), "nothing"),
        (("export", "nothing", "--to", "x"), "nothing"),
        (("sync", "nothing"), "nothing"),
        (("compare", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    typed: Typed, tmp_path: Path, words: tuple[str, ...], expected: str
) -> None:
    said = typed(*words)
    assert (said.code, said.out) == (2, "")
    assert expected in said.err
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("prune-search: ")
    assert not (tmp_path / "searches").exists()


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A launch ends where the search would begin; what it was called with."""
    launched: list[dict[str, Any]] = []

    def launch(space: Any, **given: Any) -> None:
        launched.append({"space": space, **given})
        raise UserError("that far")

    monkeypatch.setattr("prune_search.api.search.launch", launch)
    return launched


def test_every_option_that_was_typed_reaches_the_search(
    typed: Typed, tmp_path: Path, unlaunched: list[dict[str, Any]]
) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    said = typed(
        *("launch", str(tmp_path / "tiny.yaml"), "--name", "monday", "--trials", "5", "--cpus-per-trial", "0.5"),
        *("--seed", "7", "--set", "mask.granularity=filter", "--heartbeat", "9", "--no-share", "--device", "cpu"),
        *("--system-metrics", "--address", "head:6379"),
    )
    assert said.code == 2
    # The plan is told before.
    assert "5 trials, " in said.err.splitlines()[0]
    assert said.err.splitlines()[0].endswith("For details: prune-search plan")
    (given,) = unlaunched
    assert given["set"] == {
        **{"mask.granularity": "filter", "search.trials": 5, "search.cpus_per_trial": 0.5, "search.seed": 7}
    }
    assert (given["space"].search["trials"], given["where"].device) == (5, "cpu")
    options = given["options"]
    assert (options.name, options.address, options.heartbeat_s) == ("monday", "head:6379", 9.0)
    assert (options.sharing, options.system_metrics, options.simulate) == (False, True, None)


def test_a_very_large_search_is_confirmed_first(
    typed: Typed, tmp_path: Path, unlaunched: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    monkeypatch.setattr("prune_search.cli.plan.ASK_TRIALS", 2)
    said = typed("launch", str(tmp_path / "tiny.yaml"))
    assert said.code == 2
    assert "Confirm a search of this size with --yes" in said.err
    assert unlaunched == []
    typed("launch", str(tmp_path / "tiny.yaml"), "--yes")
    typed("launch", str(tmp_path / "tiny.yaml"), "--simulate")
    assert [given["options"].simulate for given in unlaunched] == [None, DEFAULT]


def test_a_surface_is_a_name_a_file_or_a_mapping() -> None:
    assert surface_written(None) is None
    assert surface_written(None, simulate=True) == DEFAULT
    assert surface_written("table.csv") == "table.csv"
    assert surface_written("{name: closed-form, noise: 0.1}") == {"name": "closed-form", "noise": 0.1}
    with pytest.raises(UserError, match="--surface"):
        surface_written("{name: closed-form, name: other}")
