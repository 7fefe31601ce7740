"""The pictures: which are drawn of what, what stands on them, and that they are told apart without colour."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from made_search import make_search
from matplotlib.figure import Figure
from told_search import Told

from prune_search.api.compare import comparison, draw, write_page, write_pictures
from prune_search.ledger.records import read_search
from prune_search.recipe.axes import PICTURES
from prune_search.recipe.facts import Picture
from prune_search.recipe.problems import UserError
from prune_search.report.figure_data import FigureData, hang
from prune_search.report.figure_style import COLOURS, kinds, styles
from prune_search.report.pictures.course import areas, trace


def exhibit_of(folder: Path) -> FigureData:
    records = read_search(folder)
    return FigureData((records,), comparison([records]))


def test_only_what_has_something_to_show_is_drawn(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    assert hang(exhibit_of(told.folder)) == {}
    told.dense(0.98)
    told.trial("snip", 0.9, 0.95)
    assert set(hang(exhibit_of(told.folder))) == {"layer-density", "tree"}
    told.trial("snip", 0.95, 0.93)
    told.trial("magnitude-after-training", 0.95, 0.93)
    found = hang(exhibit_of(told.folder))
    # In the order in which they are shown; every trial of one k2, no penalty, and too few trials for a forest.
    assert list(found) == ["pareto", "accuracy-sparsity", "layer-density", "k1-k2-plane", "search-course", "tree"]


def test_training_accuracy_stands_beside_the_other_where_it_was_measured(tmp_path: Path) -> None:
    names = ["accuracy-sparsity"]
    for folder, training in (("without", None), ("with", 1.0)):
        told = Told.begin(tmp_path / folder)
        for sparsity, accuracy in ((0.5, 0.9), (0.9, 0.95), (0.99, 0.5)):
            told.trial("snip", sparsity, accuracy, training=training)
        drawn = hang(exhibit_of(told.folder), names)["accuracy-sparsity"].decode()
        assert ("snip, training data" in drawn) is (training is not None)


def test_the_title_of_a_picture_is_what_was_found(tmp_path: Path) -> None:
    titles = {}
    for name, accuracies in (("kept", (0.98, 0.975, 0.4)), ("lost", (0.9, 0.8, 0.4))):
        told = Told.begin(tmp_path / name)
        told.dense(0.98)
        for sparsity, accuracy in zip((0.5, 0.9, 0.99), accuracies, strict=True):
            told.trial("snip", sparsity, accuracy)
        titles[name] = hang(exhibit_of(told.folder), ["accuracy-sparsity"])["accuracy-sparsity"].decode()
    assert "snip keeps accuracy within 1 % of dense at 10 % of the weights" in titles["kept"]
    assert "no network stays within 1 % of the dense one's accuracy" in titles["lost"]


@pytest.mark.slow
def test_the_pictures_of_a_search_say_what_they_show(tmp_path: Path) -> None:
    found = {name: content.decode() for name, content in hang(exhibit_of(make_search(tmp_path))).items()}
    for name, words in {
        "pareto": ("made-up: Pareto front", "lottery-ticket", "dense network", "weights left"),
        "accuracy-sparsity": ("dense network", "val/accuracy"),
        "layer-density": ("whole network", "% of 10,000"),
        "k1-k2-plane": ("k1: the mask is found at", "×"),
        "search-course": ("best so far", "area under the Pareto front"),
        "tree": ("steps trained",),
    }.items():
        assert found[name].startswith("<?xml")
        for word in words:
            assert word in found[name], (name, word)


@pytest.mark.slow
def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=8)
    names = ["pareto", "tree"]
    assert hang(exhibit_of(folder), names) == hang(exhibit_of(folder), names)


def test_what_a_search_believes_is_drawn_beside_chance_and_hole_by_hole(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.95)
    bare = exhibit_of(told.folder)
    course = [
        {"steps": 100 * place, "value": 0.8 + place / 50, "low": 0.7, "high": 0.95, "chance": 0.7} for place in range(4)
    ]
    points = [{"x": x, "value": 0.8 + x / 10, "low": 0.7, "high": 0.95} for x in (0.01, 0.1, 1.0)]
    words = [{**point, "x": name} for point, name in zip(points, ("0it", "5ep", "end"), strict=True)]
    effects = [{"hole": "train.optimizer.lr", "points": points}, {"hole": "weights.at", "points": words}]
    one = {"search": "told", "metric": "val/accuracy", "direction": "maximize", "course": course, "effects": effects}
    found = hang(FigureData(bare.searches, {**bare.data, "believed": [one]}), ["expected-course", "effects"])
    line, holes = found["expected-course"].decode(), found["effects"].decode()
    assert all(word in line for word in ("expected val/accuracy", "paid steps", ">chance<"))
    assert all(word in holes for word in ("train.optimizer.lr", "weights.at", ">5ep<", ">end<"))
    nothing = {**one, "course": course[:1], "effects": []}
    assert hang(FigureData(bare.searches, {**bare.data, "believed": [nothing]}), ["expected-course", "effects"]) == {}


def test_a_picture_is_one_registered_function(tmp_path: Path) -> None:
    @PICTURES.register("counts", summary="how many rows there are", facts=Picture(place=5))
    def counts(figure_data: FigureData) -> Figure | None:
        """A bar."""
        figure = Figure()
        figure.subplots().bar(["rows"], [len(figure_data.rows)])
        return figure

    try:
        told = Told.begin(tmp_path)
        told.trial("snip", 0.9, 0.95)
        assert next(iter(hang(exhibit_of(told.folder)))) == "counts"
    finally:
        PICTURES.withdraw("counts")


def test_what_is_told_apart_differs_in_marker_line_and_hatch_too() -> None:
    looks = styles(f"paradigm {number}" for number in range(12)).values()
    assert len({(look.marker, look.filled) for look in looks}) == 12
    few = list(styles("abcdefg").values())
    for kind in ("marker", "line", "hatch", "colour"):
        assert len({str(getattr(look, kind)) for look in few}) == len(COLOURS) == 7


def test_paradigms_beyond_a_dozen_share_one_mark() -> None:
    names = [f"p{number}" for number in range(20)]
    assert kinds(names[:12]) == names[:12]
    assert kinds(names)[:11] == names[:11]
    assert set(kinds(names)[11:]) == {"others"}


def test_the_dominated_area_never_shrinks_and_ends_at_the_whole() -> None:
    draw = random.Random(0)
    points = [(draw.random(), draw.random()) for _ in range(40)]
    found = areas(points, points)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0)


def test_the_trace_of_a_penalty_is_what_the_recipe_says() -> None:
    options = {"step": 0.25, "every": "10it", "ceiling": 1.0, "stabilise": "2ep"}
    assert trace(options, 20) == [(0, 0.25), (10, 0.5), (20, 0.75), (30, 1.0), (30, 1.0), (70, 1.0)]


@pytest.mark.slow
def test_pictures_and_page_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    records = read_search(make_search(tmp_path, trials=8))
    data = comparison([records])
    files = write_pictures([records], data, tmp_path / "png", "png")
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert "pareto.png" in [file.name for file in files]
    page = tmp_path / "page.html"
    write_page([records], data, page)
    text = page.read_text(encoding="utf-8")
    # One file: it asks for nothing, and runs nothing but its own script.
    # The name of SVG's elements is no address that is fetched.
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert text.count("<script") == 2
    assert text.count("data:image/svg+xml;base64,") == len(files)
    for word in ("Leaderboard", "control-dense", "Best:", data["rows"][0]["name"], "default-src 'none'"):
        assert word in text
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--pictures: .* cannot be"):
        write_pictures([records], data, tmp_path / "file")
    with pytest.raises(UserError, match=r"--html: .* cannot be written"):
        write_page([records], data, tmp_path / "file" / "page.html")


def test_what_somebody_wrote_into_a_name_is_text_on_the_page(tmp_path: Path) -> None:
    told = Told.begin(tmp_path)
    told.trial("snip", 0.9, 0.95)
    (record,) = (told.folder / "trials" / "000001").glob("proposed-*")
    record.write_text(record.read_text().replace("001-snip", "<script>alert(1)</script>$x_1$"))
    data = comparison([told.records])
    write_page([told.records], data, tmp_path / "page.html")
    assert "<script" not in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_a_search_keeps_its_pictures_beside_its_records(tmp_path: Path) -> None:
    folder = make_search(tmp_path, trials=8)
    draw(read_search(folder))
    assert {"pareto.svg", "tree.svg"} <= {file.name for file in (folder / "pictures").iterdir()}
