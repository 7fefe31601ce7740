"""The page of a comparison in a real browser: a thousand rows open, are filtered and sorted, and two are compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium
from many_rows import LOW, SORT, many_rows

from prune_search.report.page import page

pytestmark = [pytest.mark.services, pytest.mark.browser]
ROWS, MAX_BYTES = 1000, 5_000_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("pictures")) as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return many_rows(tmp_path_factory.mktemp("storage"), ROWS)


def test_a_thousand_rows_open_and_are_filtered_and_sorted(
    data: dict[str, Any], browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(data, {}), encoding="utf-8")
    assert file.stat().st_size < MAX_BYTES
    driver = browser.driver
    browser.text(file.as_uri(), f"{ROWS} of {ROWS} rows", picture="explorer")
    driver.execute_script(LOW)
    kept = sum(row["metrics"]["sparsity"] >= 0.9 for row in data["rows"])
    assert f"{kept} of {ROWS} rows" in driver.page_source
    assert len(driver.find_elements("css selector", ".point")) == kept
    driver.execute_script(SORT)
    column = "[...document.querySelectorAll('table.sortable tbody td:nth-child(4)')]"
    cells = driver.execute_script(f"return {column}.map(cell => parseFloat(cell.textContent))")
    assert len(cells) == ROWS
    assert cells == sorted(cells)


def test_a_click_shows_a_recipe_and_another_compares_the_two(
    data: dict[str, Any], browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(data, {}), encoding="utf-8")
    driver: Any = browser.driver
    browser.text(file.as_uri(), f"{ROWS} of {ROWS} rows", picture="explorer")
    click = "document.querySelector('.point[data-i=\"{}\"]').dispatchEvent(new MouseEvent('click', {{shiftKey: {}}}))"
    driver.execute_script(click.format(0, "false"))
    panel = driver.find_element("id", "panel")
    assert "0000-snip" in panel.text
    assert "mask.criterion snip" in " ".join(panel.text.split())
    driver.execute_script(click.format(1, "true"))
    told = " ".join(driver.find_element("id", "panel").text.split())
    assert "0000-snip beside 0001-random" in told
    assert "mask.criterion snip random" in told
    assert len(driver.find_elements("css selector", "#panel polyline")) == 2
    problems = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert not problems
    width = driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert width, "nothing is cut off"
