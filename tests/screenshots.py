"""Pictures of what people see: the terminal at 80 and 120 columns, MLflow's pages, the page of a search and the card.

    python tests/screenshots.py --to FOLDER [--space quickstart] [--guide]

It runs a search with a Ray and an MLflow of its own, minutes of it, and needs Chromium with its driver. With `--guide`,
the pictures that the guide shows are copied into it.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from browser import Browser, chromium
from real_mlflow import local_server
from rich.console import Console
from rich.markdown import Markdown
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from rich.text import Text
from terminal import screens, typed_in

import prune_search
from prune_search.ledger.records import read_search, search_folder
from prune_search.tracking.delivered_log import DeliveredLog, memory_folder
from prune_search.tracking.run_content import PARENT
from prune_search.tracking.ui_views import searches_link, table_link

PROGRAM = (sys.executable, "-m", "prune_search")
NAME = "pictured"
WIDTHS = (80, 120)
MLFLOW = (1600, 1000)
# Pictures that the guide shows, and their names there.
GUIDE = {
    "launch-80-halfway-dark.svg": "launch.svg",
    "compare-80-dark.svg": "compare.svg",
    "mlflow-table.png": "mlflow.png",
    "page.png": "page.png",
}
# Fonts that a reader's browser would fetch from elsewhere.
FONTS = re.compile(r"@font-face\s*\{[^}]*\}")
THEMES = {"dark": MONOKAI, "light": DEFAULT_TERMINAL_THEME}


def main() -> None:
    """Make all pictures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--to", type=Path, required=True, help="folder of the pictures")
    asked.add_argument("--space", default="quickstart", help="what is searched; a name or a file")
    asked.add_argument("--guide", action="store_true", help="take those of the guide into it")
    given = asked.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ps-pictures-") as scratch:
        storage = Path(scratch) / "storage"
        environment = {**os.environ, "PRUNE_SEARCH_STORAGE": str(storage)}
        in_terminals(given.space, Path(scratch), given.to, environment)
        with chromium(given.to) as browser:
            in_browser(browser, storage, Path(scratch))
    if given.guide:
        for name, target in GUIDE.items():
            shutil.copyfile(given.to / name, Path(prune_search.__file__).parent / "guide" / target)
    for file in sorted(given.to.iterdir()):
        print(file.name)


def in_terminals(space: str, scratch: Path, to: Path, environment: Mapping[str, str]) -> None:
    """A launch, while it runs and at its end, and what people type next."""
    card = scratch / "best"
    commands = {
        "launch": ["launch", space, "--name", NAME],
        "status": ["status", NAME],
        "compare": ["compare", NAME, "--html", str(scratch / "page.html")],
        "export": ["export", NAME, "--to", str(card)],
        "help": ["--help"],
    }
    for verb, words in commands.items():
        for columns in WIDTHS:
            again = verb == "launch" and columns != WIDTHS[0]
            # The second launch, of another name, trains nothing anew.
            words = [f"{word}-again" if word == NAME and again else word for word in words]
            status, pieces = typed_in([*PROGRAM, *words], columns, environment)
            if status != 0:
                raise SystemExit("".join(pieces))
            halfway, end = screens(pieces, columns)
            draw(end.text(colours=True), columns, to, f"{verb}-{columns}")
            if verb == "launch":
                draw(halfway.text(colours=True), columns, to, f"{verb}-{columns}-halfway")
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(Markdown((card / "README.md").read_text().partition("\n---\n")[2]))
    (to / "card.svg").write_text(console.export_svg(title="README.md of an exported network"))


def draw(text: str, columns: int, to: Path, name: str) -> None:
    """What stands on a screen, on a dark and on a light one."""
    for theme, colours in THEMES.items():
        console = Console(record=True, width=columns, file=io.StringIO(), color_system="truecolor", force_terminal=True)
        console.print(Text.from_ansi(text), end="", no_wrap=True, crop=False)
        svg = console.export_svg(title=f"{columns} columns", theme=colours)
        (to / f"{name}-{theme}.svg").write_text(FONTS.sub("", svg))


def in_browser(browser: Browser, storage: Path, scratch: Path) -> None:
    """MLflow's pages of the search, and the page that compare writes."""
    records = read_search(search_folder(storage, NAME))
    delivered = DeliveredLog.read(memory_folder(records.folder, records.tracking_uri))
    identity, experiment = str(records.definition["id"]), delivered.experiment
    best = max(records.numbered(), key=lambda trial: trial.metrics.get("val/accuracy", -1.0))
    assert best.proposed is not None
    name = str(best.proposed.data["name"])
    with served(storage) as at:
        runs = f"{at}/#/experiments/{experiment}/runs"
        table, charts = (f"{at}/{table_link(identity, charts, experiment=experiment)}" for charts in (False, True))
        browser.driver.set_window_size(*MLFLOW)
        browser.text(table, "Runs", picture="mlflow-table")
        close_assistant(browser)
        # A long name is cut in the list beside the charts.
        browser.text(table, name, picture="mlflow-table")
        browser.text(charts, name[:16], "Parallel Coordinates", picture="mlflow-charts")
        browser.text(f"{at}/{searches_link(experiment=experiment)}", NAME, picture="mlflow-searches")
        for key, words, picture in ((PARENT, "Best:", "mlflow-search"), (best.id, "trial.key", "mlflow-trial")):
            browser.text(f"{runs}/{delivered.of(key).run_id}?workflowType=machine_learning", words, picture=picture)
    browser.driver.set_window_size(1280, 1400)
    browser.text((scratch / "page.html").as_uri(), NAME, picture="page")


def close_assistant(browser: Browser) -> None:
    """Close what MLflow opens beside its pages on the first visit, and remembers closed."""
    from selenium.webdriver.common.by import By

    for button in browser.driver.find_elements(By.CSS_SELECTOR, "button[aria-label='Close']"):
        button.click()


@contextmanager
def served(storage: Path) -> Iterator[str]:
    """MLflow's address while the block runs."""
    with local_server(storage) as server:
        yield str(server.uri)


if __name__ == "__main__":
    main()
