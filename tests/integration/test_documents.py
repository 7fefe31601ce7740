"""Every command and example of README and of the guide runs, in the order of the pages, in one clean folder.

Searches and trainings are shortened; nothing else is changed. What installs the package is what `.ci/run` does.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import Typed
from object_store import ObjectStore
from real_mlflow import MLFLOW_WARNINGS

import prune_search
from prune_search.recipe.axes import CRITERIA

pytestmark = MLFLOW_WARNINGS

ROOT = Path(__file__).parents[2]
GUIDE = Path(prune_search.__file__).parent / "guide"
# As a reader comes to them; a page may use what an earlier one made.
ORDER = (
    "README",
    "formula",
    "tutorial",
    "which_paradigm",
    "cookbook",
    "export",
    "searching",
    "recipes",
    "own_code",
    "kinds",
    "criterion",
    "contributing",
    "storage",
    "simulation",
)
# The examples of these pages have tests of their own; those of `pretrained` are run by hand, since the workers that the
# tests share cannot import a page's module.
ELSEWHERE = ("library", "cluster", "pretrained")
BLOCK = re.compile(r"^```(sh|yaml|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALLS = ("python3 -m venv", ".venv/bin/pip install", ".venv/bin/python -m pytest", "export AWS_")
FEW, SHORT = ("--set", "search.trials=2"), ("--set", "train.steps=3ep")
# In README's example for notebooks, which test_readme.py runs.
NOTEBOOK = "import prune_search\n\nresult = prune_search.run("


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    kind: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it shows, where its first line is one as a comment."""
        first = re.match(r"# (\w+\.(?:py|yaml))\n", self.text)
        return None if first is None else first[1]


def page(name: str) -> Path:
    return ROOT / "README.md" if name == "README" else GUIDE / f"{name}.md"


def blocks() -> Iterator[Block]:
    for name in ORDER:
        for kind, text in BLOCK.findall(page(name).read_text(encoding="utf-8")):
            yield Block(name, kind, text)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block as words, without comments and without what installs the package."""
    for line in filter(None, map(str.strip, text.splitlines())):
        for command in line.split(" && "):
            words = shlex.split(command, comments=True)
            if words and not command.startswith(INSTALLS):
                yield words


def shortened(words: list[str], data_root: str | None) -> list[str] | None:
    """A command with less to do; None for one on data that are not here."""
    verb, *rest = words
    if verb == "ui":
        return ["ui", "--help"]
    if "~/data" in rest:
        short = [*SHORT[:1], "train.steps=4it", "--set", "retrain.steps=4it"]
        return None if data_root is None else [verb, *(data_root if w == "~/data" else w for w in rest), *short]
    if verb == "launch" and "--task" in rest:
        # The workers that the tests share cannot import a page's module.
        return ["plan", *rest, *FEW, *SHORT, "--no-calibrate"]
    if "--trials" in rest:
        rest[rest.index("--trials") + 1] = "8"
    elif verb == "launch":
        rest += FEW
    if verb == "run" and "--verify" not in rest and not Path(rest[0]).exists():
        rest += SHORT
    if verb == "launch" and "--simulate" not in rest and "--surface" not in rest:
        rest += SHORT
    return [verb, *rest]


def run_words(words: list[str], typed: Typed, data_root: str | None, where: str) -> None:
    """Run a command: in this process, or in one of its own where it sets a variable."""
    variables = [word for word in words if re.fullmatch(r"[A-Z_]+=.*", word)]
    program, *rest = words[len(variables) :]
    if (program, *rest[:1]) == ("python", "-m"):
        done = subprocess.run([sys.executable, *rest], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{where}: {shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        return
    assert program.removeprefix(".venv/bin/") == "prune-search", f"{where}: {program} is no command of ours"
    asked = shortened(rest, data_root)
    if asked is None:
        return
    if variables:
        environment = {**os.environ, **dict(word.split("=", 1) for word in variables)}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *filter(None, [environment.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", "prune_search", *asked], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{where}: {shlex.join(asked)}\n{done.stdout}\n{done.stderr}"
        return
    said = typed(*asked)
    assert said.code == 0, f"{where}: {shlex.join(asked)}\n{said.out}\n{said.err}"


def run_block(block: Block, typed: Typed, data_root: str | None) -> None:
    if block.file is not None:
        Path(block.file).write_text(block.text)
    elif block.kind == "sh":
        for words in commands(block.text):
            run_words(words, typed, data_root, block.page)
    elif block.kind == "yaml":
        # A recipe, or the search block of one.
        head = "" if "task:" in block.text else "preset: snip\nmask: {sparsity: {hole: uniform, low: 0.5, high: 0.9}}\n"
        Path("shown.yaml").write_text(head + block.text)
        run_words(["prune-search", "validate", "shown.yaml"], typed, data_root, block.page)
    elif not block.text.startswith(NOTEBOOK):
        import torch

        network = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
        names = {"model": network, "x": torch.randn(8, 64), "y": torch.arange(8), "prune_search": prune_search}
        exec(compile(block.text, block.page, "exec"), names)


def test_every_command_and_example_runs(
    trouble: Path, tmp_path: Path, object_store: ObjectStore, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_root = os.environ.get("PRUNE_SEARCH_DATA")
    folder = tmp_path / "clean"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("PRUNE_SEARCH_STORAGE")
    known = set(CRITERIA)
    try:
        for block in blocks():
            run_block(block, typed, data_root)
    finally:
        # What the guide's own module has registered in this process.
        for name in set(CRITERIA) - known:
            CRITERIA.withdraw(name)
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "best" / "README.md").is_file()
    assert (folder / "pictures" / "steps-accuracy.svg").is_file()


def test_every_page_is_linked_from_readme_and_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted(GUIDE.glob("*.md"))]
    for path in pages:
        for link in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link} is not there"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in pages[1:]:
        assert f"](prune_search/guide/{path.name})" in readme, f"README does not link to {path.name}"


def test_no_page_with_commands_is_left_out() -> None:
    shown = {path.stem for path in GUIDE.glob("*.md") if "```sh\n" in path.read_text(encoding="utf-8")}
    assert shown <= {*ORDER, *ELSEWHERE}
