"""What a surface is given by, and what becomes of a round on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.simulation.surface import Outlook, Simulation, loss_at, normal, uniform

OUTLOOK = Outlook(truth=0.9, accuracy=0.9, start=0.1, half=0.25, deviation=0.0)


def test_half_of_what_is_regained_is_regained_at_the_half_and_all_at_the_end() -> None:
    whole = OUTLOOK.accuracy - OUTLOOK.start
    assert OUTLOOK.during(0.0, 0.0) == pytest.approx(OUTLOOK.start)
    assert OUTLOOK.during(1.0, 0.0) == pytest.approx(OUTLOOK.accuracy)
    assert OUTLOOK.during(0.25, 0.0) == pytest.approx(OUTLOOK.start + whole * 0.5 / (1 - 2**-4))


def test_an_accuracy_with_noise_is_still_one() -> None:
    noisy = replace(OUTLOOK, deviation=0.5)
    assert noisy.during(1.0, 3.0) == 1.0
    assert noisy.during(0.0, -3.0) == 0.0


def test_draws_depend_on_the_address_and_the_words_only() -> None:
    assert uniform("a", "end", 1) == uniform("a", "end", 1)
    assert len({uniform("a", "end", 1), uniform("b", "end", 1), uniform("a", "end", 2), uniform("a", "other", 1)}) == 4
    draws = [uniform("a", number) for number in range(500)]
    assert all(0 < draw < 1 for draw in draws)
    assert sum(draws) / 500 == pytest.approx(0.5, abs=0.05)
    assert sum(normal("a", number) ** 2 for number in range(500)) / 500 == pytest.approx(1.0, abs=0.2)
    assert loss_at(1.0) == 0.0
    assert loss_at(0.0) == pytest.approx(13.8155, abs=1e-3)


def test_a_surface_is_told_from_others_by_its_options() -> None:
    plain, noisy = Simulation.of("closed-form"), Simulation.of({"name": "closed-form", "noise": 3.0})
    assert plain.name == noisy.name == "closed-form"
    assert plain.digest == Simulation.of({"name": "closed-form"}).digest
    assert plain.digest != noisy.digest
    assert Simulation.again(noisy.as_data()).digest == noisy.digest


def test_a_search_does_not_go_on_with_a_surface_that_has_changed() -> None:
    kept = {**Simulation.of("closed-form").as_data(), "content": "of a table as it was"}
    with pytest.raises(UserError, match="has changed since the search was launched"):
        Simulation.again(kept)


def test_a_path_is_a_table_and_any_other_word_a_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'closed-form'"):
        Simulation.of("closed-frm")
    with pytest.raises(UserError, match=r"missing\.csv"):
        Simulation.of(str(tmp_path / "missing.csv"))
