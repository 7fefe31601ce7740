"""Lists the tests that are marked `slow` for the seconds that they took, whatever their files say.

    python -m pytest -q -n 2 --junitxml=JUNIT.xml
    python tests/slow_list.py JUNIT.xml --over 1.0

README's test command leaves them to `.ci/run`. Make the list from a run without other work beside it. Tests that the
run did not hold stay in it as long as their files are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parent
LIST = TESTS / "slow_tests.txt"


def listed() -> frozenset[str]:
    """Node ids, from the project's root, of the tests that are slow by what was measured."""
    lines = LIST.read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def seconds(report: Path) -> Iterator[tuple[str, float]]:
    """The node id of every test in a report of pytest, and the seconds that it took with its fixtures."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if module := case.get("classname"):
            name = str(case.get("name"))
            # Where tests of a group stay on one worker, their group stands behind the name.
            name = name.partition("@")[0] if "[" not in name else name
            yield f"{module.replace('.', '/')}.py::{name}", float(case.get("time") or 0.0)


def main() -> None:
    """Write the list."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("report", type=Path, help="pytest's --junitxml of README's test command")
    asked.add_argument("--over", type=float, default=1.0, help="seconds")
    given = asked.parse_args()
    taken = dict(seconds(given.report))
    kept = {node for node in listed() - taken.keys() if (TESTS.parent / node.partition("::")[0]).exists()}
    found = sorted(kept | {node for node, time in taken.items() if time > given.over})
    head = "# Made by tests/slow_list.py: tests that are slow by what was measured.\n"
    LIST.write_text(head + "".join(f"{node}\n" for node in found))
    print(f"{len(found)} tests, {sum(taken.get(node, 0.0) for node in found):.0f} of {sum(taken.values()):.0f} s")


if __name__ == "__main__":
    main()
