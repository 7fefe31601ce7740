"""The house in figures and in one picture, both read from the source: who imports whom, and what is to become less.

python tests/house.py                 writes the picture into prune_search/guide/contributing.md
python tests/house.py --counts        prints the counts of this tree
python tests/house.py --counts --root TREE     of another one, such as a checkout of version 0.1
python tests/house.py --untested      lists the modules without a unit test of their own name
python tests/house.py --way           lists the files that one recipe enters from the launch to the trained trial
"""

from __future__ import annotations

import argparse
import ast
import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import untested
import way

ROOT = Path(__file__).parents[1]
PACKAGE = "prune_search"
PAGE = f"{PACKAGE}/guide/contributing.md"
BEGIN, END = "<!-- written by tests/house.py -->", "<!-- up to here -->"
# Blocks of a recipe, the names that hold one, and the keys that stand in one.
BLOCKS = ("task", "train", "mask", "weights", "retrain")
HOLDERS = (*BLOCKS, "blocks", "canonical")
KEYS = (
    *BLOCKS,
    *[
        "data",
        "model",
        "seed",
        "steps",
        "batch",
        "init",
        "optimizer",
        "schedule",
        "augment",
        "from",
        "at",
        "criterion",
        "sparsity",
        "scope",
    ],
)
KEYS = (
    *KEYS,
    *["granularity", "score", "control", "prepare", "transform", "until", "clock", "dynamics", "stretch", "rounds"],
)
# Where a recipe is read: there a block is looked up by its key.
READERS = "recipe"
# Where recipes are written as plain data, by design: a preset is what a recipe file would say.
WRITERS = f"{PACKAGE}.pruning.presets."


@dataclass(frozen=True)
class Source:
    """A file of the package.

    Attributes:
        module: its dotted name.
        tree: what it says.
        lines: how long it is.
        is_package: whether it is an ``__init__.py``.
    """

    module: str
    tree: ast.Module
    lines: int
    is_package: bool

    @property
    def folder(self) -> str:
        """The folder of the house that it lies in; its own name at the top."""
        return self.module.split(".")[1] if "." in self.module else PACKAGE


@dataclass(frozen=True)
class Import:
    """One import of one module by another.

    Attributes:
        source, target: modules of the package.
        typing_only: whether it stands below ``if TYPE_CHECKING``.
    """

    source: str
    target: str
    typing_only: bool


@functools.cache
def read(root: Path) -> dict[str, Source]:
    """Every file of the package below a root, by module."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        text = path.read_text(encoding="utf-8")
        found[module] = Source(module, ast.parse(text), len(text.splitlines()), is_package)
    return found


# --- imports --------------------------------------------------------------------------------------------------------


def imports(sources: Mapping[str, Source]) -> list[Import]:
    """Every import between modules of the package, at the head of a file or within a function."""
    return [
        Import(source.module, target, typing_only)
        for source in sources.values()
        for node, typing_only in _import_nodes(source.tree, False)
        for target in _targets(node, sources)
        if target != source.module
    ]


def _import_nodes(node: ast.AST, typing_only: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, typing_only
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in node.body:
            yield from _import_nodes(statement, True)
        for statement in node.orelse:
            yield from _import_nodes(statement, typing_only)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _import_nodes(child, typing_only)


def _targets(node: ast.Import | ast.ImportFrom, sources: Mapping[str, Source]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names if name.name in sources)
    elif node.module is not None and node.level == 0:
        for name in node.names:
            below = f"{node.module}.{name.name}"
            if below in sources or node.module in sources:
                yield below if below in sources else node.module


def circles(edges: Iterable[Import]) -> list[list[str]]:
    """Groups of modules each of which imports all others of its group, by whatever way."""
    following: dict[str, list[str]] = {}
    for edge in edges:
        following.setdefault(edge.source, []).append(edge.target)
    reached = {module: _reached(module, following) for module in following}
    groups = {
        tuple(sorted({module, *(other for other in reached[module] if module in reached.get(other, ()))}))
        for module in following
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def _reached(module: str, following: Mapping[str, Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for target in following.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def layers(root: Path) -> list[tuple[str, ...]]:
    """The layers of the import contract in pyproject.toml, top to bottom; none where there is no contract."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in project["tool"].get("importlinter", {}).get("contracts", []):
        if contract["type"] == "layers":
            return [tuple(part.strip() for part in line.split("|")) for line in contract["layers"]]
    return []


def climbing(edges: Iterable[Import], order: list[tuple[str, ...]]) -> list[Import]:
    """Imports of a folder that lies higher, or beside in the same layer."""
    level = {folder: number for number, line in enumerate(order) for folder in line}

    def climbs(edge: Import) -> bool:
        own, other = (module.split(".")[1] for module in (edge.source, edge.target))
        return own in level and other in level and own != other and level[other] <= level[own]

    inside = (edge for edge in edges if edge.source.count(".") and edge.target.count("."))
    return sorted({edge for edge in inside if climbs(edge)}, key=lambda edge: (edge.source, edge.target))


# --- counts ---------------------------------------------------------------------------------------------------------


def fact_lookups(source: Source) -> int:
    """``facts["…"]``: a fact by its name, which no type checker sees."""
    return sum(_key(node) is not None and _name(node.value) == "facts" for node in _subscripts(source.tree))


def block_lookups(source: Source) -> int:
    """``mask["…"]``, ``recipe.train["…"]``: a recipe's key in a raw block, outside of the folder that reads recipes."""
    if source.folder == READERS or source.module.startswith(WRITERS):
        return 0
    return _block_keys(source)


def written_keys(source: Source) -> int:
    """The same where presets are written: they are values like a recipe file, and some change a block of another."""
    return _block_keys(source) if source.module.startswith(WRITERS) else 0


def _block_keys(source: Source) -> int:
    return sum(_key(node) in KEYS and _name(node.value) in HOLDERS for node in _subscripts(source.tree))


def path_checks(source: Source) -> int:
    """``isinstance(…, ObjectPath)``: who asks which storage it is, outside of the storage."""
    if source.folder == "storage":
        return 0
    calls = (node for node in ast.walk(source.tree) if isinstance(node, ast.Call) and len(node.args) == 2)
    return sum(_name(node.func) == "isinstance" and "ObjectPath" in ast.unparse(node.args[1]) for node in calls)


def untyped_signatures(source: Source) -> int:
    """``Any`` in signatures of the registry and of the recipe."""
    if source.module not in (f"{PACKAGE}.recipe.registry", f"{PACKAGE}.recipe.recipe"):
        return 0
    functions = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)]
    hints: list[ast.expr | None] = [function.returns for function in functions]
    hints += [one.annotation for function in functions for one in ast.walk(function.args) if isinstance(one, ast.arg)]
    return sum(isinstance(node, ast.Name) and node.id == "Any" for hint in hints if hint for node in ast.walk(hint))


def _subscripts(tree: ast.AST) -> Iterator[ast.Subscript]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Subscript))


def _key(node: ast.Subscript) -> str | None:
    value = node.slice.value if isinstance(node.slice, ast.Constant) else None
    return value if isinstance(value, str) else None


def _name(node: ast.expr) -> str:
    """The last word: of ``a.b`` b, of ``a["b"]`` b."""
    if isinstance(node, ast.Subscript):
        return _key(node) or ""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


COUNTS: dict[str, Callable[[Source], int]] = {
    'facts looked up by name (facts["…"])': fact_lookups,
    "keys of raw recipe blocks, outside recipe/ and of presets": block_lookups,
    "keys of raw recipe blocks in presets, which write them by design": written_keys,
    "isinstance(…, ObjectPath), outside storage/": path_checks,
    "Any in signatures of recipe/registry.py and recipe/recipe.py": untyped_signatures,
}


def functions(sources: Mapping[str, Source]) -> list[tuple[int, str]]:
    """Every function by its lines, longest first."""
    found = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{source.module}:{node.name}")
        for source in sources.values()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(found, reverse=True)


def told(root: Path) -> Iterator[str]:
    """The counts of a tree, a line each; what is counted stands below where it is few."""
    sources = read(root)
    edges = imports(sources)
    running = [edge for edge in edges if not edge.typing_only]
    yield f"files {len(sources)}, lines {sum(source.lines for source in sources.values())}"
    for name, count in COUNTS.items():
        yield f"{name}: {sum(map(count, sources.values()))}"
    found = circles(running)
    with_types = [group for group in circles(edges) if group not in found]
    order = layers(root)
    climbs = climbing(edges, order)
    yield f"circles of imports: {len(found)}"
    yield from (f"  {' <-> '.join(group)}" for group in found)
    yield f"more circles, or larger ones, through TYPE_CHECKING: {len(with_types)}"
    yield from (f"  {' <-> '.join(group)}" for group in with_types)
    yield f"imports that climb: {len(climbs) if order else 'pyproject.toml declares no layers'}"
    yield from (f"  {edge.source} -> {edge.target}{' (types)' * edge.typing_only}" for edge in climbs)
    yield "longest files:"
    longest = sorted(((source.lines, source.module) for source in sources.values()), reverse=True)
    yield from (f"  {count} {name}" for count, name in longest[:5])
    yield "longest functions:"
    yield from (f"  {count} {name}" for count, name in functions(sources)[:5])


# --- the picture ----------------------------------------------------------------------------------------------------


def arrows(sources: Mapping[str, Source], order: list[tuple[str, ...]]) -> dict[str, set[str]]:
    """From each folder of the layers to those that it imports."""
    known = {folder for line in order for folder in line}
    found: dict[str, set[str]] = {folder: set() for line in order for folder in line}
    for edge in imports(sources):
        own, other = sources[edge.source].folder, sources[edge.target].folder
        if own in known and other in known and own != other:
            found[own].add(other)
    return found


def picture(root: Path) -> str:
    """The layers as Mermaid: an arrow from a folder to each that it imports, and that no other arrow leads to."""
    order = layers(root)
    all_arrows = arrows(read(root), order)
    lines = ["```mermaid", "flowchart TD"]
    for number, line in enumerate(order):
        lines += [f"  subgraph layer{number}[ ]", "    direction LR", *(f"    {folder}" for folder in line), "  end"]
    lines += [f"  layer{above} ~~~ layer{below}" for above, below in pairwise(range(len(order)))]
    for folder, targets in all_arrows.items():
        implied = {far for target in targets for far in _reached(target, all_arrows)}
        lines += [f"  {folder} --> {target}" for line in order for target in line if target in targets - implied]
    table = ["| folder | imports |", "|---|---|"]
    for folder, targets in all_arrows.items():
        named = [target for line in order for target in line if target in targets]
        table.append(f"| {folder} | {', '.join(named) or 'none of them'} |")
    return "\n".join([*lines, "```", "", *table])


def with_picture(page: str, drawn: str) -> str:
    """The page with the picture between its two marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{drawn}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Count, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", action="store_true", help="print the counts and write nothing")
    parser.add_argument("--untested", action="store_true", help="list the modules without a unit test of their own")
    parser.add_argument("--way", action="store_true", help="launch a small search, and list the files that it enters")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree")
    given = parser.parse_args()
    if given.counts or given.untested or given.way:
        chosen = told(given.root) if given.counts else untested.told(given.root) if given.untested else way.told()
        print("\n".join(chosen))
        return
    page = given.root / PAGE
    page.write_text(with_picture(page.read_text(encoding="utf-8"), picture(given.root)), encoding="utf-8")


if __name__ == "__main__":
    main()
