"""How long the page of a comparison of 1,000 rows takes in Chromium: to open, to filter, to sort.

python tests/benchmarks/page_of_many_rows.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import chromium
from many_rows import LOW, SORT, many_rows

from prune_search.report.page import page

TIMED = "const begun = performance.now(); {what}; return performance.now() - begun;"
OPENED = "return performance.getEntriesByType('navigation')[0].domComplete"


def main() -> None:
    """Print milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page(many_rows(Path(folder), rows), {}), encoding="utf-8")
        print(f"{rows:,} rows, {file.stat().st_size / 1e6:.1f} MB")
        with chromium(Path(folder)) as browser:
            browser.text(file.as_uri(), f"{rows} of {rows} rows", picture="page")
            steps = {"opened": OPENED, "filtered": TIMED.format(what=LOW), "sorted": TIMED.format(what=SORT)}
            for name, code in steps.items():
                print(f"  {name:10} {browser.driver.execute_script(code):8.0f} ms")


if __name__ == "__main__":
    main()
