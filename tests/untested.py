"""Which modules have no unit test of their own name, and why those that need none do not.

``prune_search/recipe/step.py`` is tested by ``tests/unit/recipe/test_step.py``. A module goes without only where it
stands in one of the two lists here: it has no behaviour of its own, or it holds registered entries of a family that a
file named here tests together. `python tests/house.py --untested` prints what is left over; a test asserts that nothing
is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "prune_search"
UNIT = Path("tests/unit")
EVERY_ENTRY = "tests/conformance/test_every_entry.py"

# Modules without behaviour of their own, each with the reason.
WITHOUT_BEHAVIOUR: Mapping[str, str] = {
    "cli/launch_arguments.py": "types of options; tests/unit/cli/test_launch.py and test_resume.py type them",
    "compact/file_names.py": "a name",
    "recipe/plain_data.py": "a type",
    "pruning/mask/learning_context.py": "a dataclass without methods",
    "pruning/mask/scopes/shared.py": "a table of options",
    "pruning/retrain/context.py": "a dataclass without methods",
    "pruning/weights/context.py": "a dataclass without methods",
    "search/ray/warm_up.py": "imports only; tests/unit/search/ray/test_worker.py runs it",
    "tasks/request.py": "a dataclass without methods",
    "tracking/pyfunc_model.py": "runs within MLflow only; tests/integration/test_cli_search.py serves a network by it",
    "training/phase.py": "a dataclass without methods",
    "version.py": "a number",
}


@dataclass(frozen=True)
class Family:
    """Modules that hold registered entries only, and the files that test them together.

    Attributes:
        folder: of the modules, below the package; those that have a file of their own name are not meant.
        tests: beside `EVERY_ENTRY`, which asks the same questions of every registered entry.
        entries: whether only modules that register an entry are meant; else the modules are steps of one analysis,
            which has no result before the last of them.
    """

    folder: str
    tests: tuple[str, ...] = ()
    entries: bool = True


FAMILIES = (
    Family("pruning/mask/criteria", ("tests/unit/pruning/mask/criteria/test_criteria.py",)),
    Family("pruning/mask/granularities", ("tests/unit/pruning/mask/granularities/test_granularities.py",)),
    Family("pruning/mask/scopes", ("tests/unit/pruning/mask/scopes/test_scopes.py",)),
    # Steps of one analysis, which has no result before the last of them.
    Family(
        "pruning/structure", ("tests/unit/pruning/structure/test_cut.py", "tests/unit/pruning/structure/test_rules.py")
    ),
    Family("pruning/structure/rules", ("tests/unit/pruning/structure/test_rules.py",)),
    Family(
        "pruning/structure",
        ("tests/unit/pruning/structure/test_cut.py", "tests/unit/pruning/structure/test_rules.py"),
        entries=False,
    ),
    Family("pruning/structure/rules", ("tests/unit/pruning/structure/test_rules.py",), entries=False),
    Family("pruning/presets", ("tests/unit/recipe/test_preset_texts.py",)),
    Family(
        "pruning/retrain/dynamics",
        ("tests/unit/pruning/retrain/test_drop_and_grow.py", "tests/integration/test_invariants.py"),
    ),
    Family("report/pictures", ("tests/unit/report/test_pictures.py",)),
    Family("tasks/datasets", ("tests/unit/tasks/test_data_sets.py",)),
    Family("tasks/models", ("tests/unit/tasks/test_models.py",)),
)


def mirror_of(module: str) -> str:
    """The file that tests a module, both as paths: of the module below the package, of the test below the tree."""
    path = Path(module)
    return str(UNIT / path.parent / f"test_{path.name}")


def modules(root: Path) -> Iterator[str]:
    """Every module of the package but ``__init__`` and ``__main__``, as a path below it."""
    package = root / PACKAGE
    for path in sorted(package.rglob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            yield path.relative_to(package).as_posix()


def untested(root: Path) -> list[str]:
    """The modules that have no test of their own name and need one."""
    return [
        module
        for module in modules(root)
        if not (root / mirror_of(module)).is_file() and module not in WITHOUT_BEHAVIOUR and not _covered(root, module)
    ]


def _covered(root: Path, module: str) -> bool:
    """Whether a module belongs to a family: it lies in its folder, and registers an entry where that is asked."""
    registers = ".register(" in (root / PACKAGE / module).read_text(encoding="utf-8")
    folder = str(Path(module).parent)
    return any(family.folder == folder and (registers or not family.entries) for family in FAMILIES)


def stale(root: Path) -> list[str]:
    """Exemptions that are none any more: modules that are gone or have a test, tests that are gone, empty families."""
    known = set(modules(root))
    found = [module for module in WITHOUT_BEHAVIOUR if module not in known or (root / mirror_of(module)).is_file()]
    found += [name for family in FAMILIES for name in (EVERY_ENTRY, *family.tests) if not (root / name).is_file()]
    found += [
        family.folder
        for family in FAMILIES
        if not any(
            str(Path(module).parent) == family.folder and not (root / mirror_of(module)).is_file() for module in known
        )
    ]
    return sorted(set(found))


def told(root: Path) -> Iterator[str]:
    """What is left over, and what goes without and why, a line each."""
    left = untested(root)
    yield f"modules without a unit test of their own name: {len(left)}"
    yield from (f"  {module}" for module in left)
    yield f"without behaviour of their own: {len(WITHOUT_BEHAVIOUR)}"
    yield from (f"  {module}: {reason}" for module, reason in WITHOUT_BEHAVIOUR.items())
    yield "entries of a family, which are tested together (and one by one by " + EVERY_ENTRY + "):"
    for family in FAMILIES:
        count = sum(
            str(Path(module).parent) == family.folder and not (root / mirror_of(module)).is_file()
            for module in modules(root)
        )
        yield f"  {family.folder}: {count} modules, {', '.join(family.tests)}"
