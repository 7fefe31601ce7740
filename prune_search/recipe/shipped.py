"""The search spaces that ship with the package: the folder search_spaces of a checkout, or a part of the wheel."""

from __future__ import annotations

from pathlib import Path

FOLDER, SUFFIX = "search_spaces", ".yaml"


def _folder() -> Path | None:
    """The package's own folder; in a checkout it is a link, beside the package lies what it leads to."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / FOLDER
    checkout = [beside] if (package.parent / "pyproject.toml").is_file() else []
    return next((folder for folder in (*checkout, package / FOLDER) if folder.is_dir()), None)


def shipped_names() -> tuple[str, ...]:
    """The names of the shipped spaces, ``quickstart`` among them, sorted."""
    folder = _folder()
    return tuple(sorted(path.stem for path in folder.glob(f"*{SUFFIX}"))) if folder is not None else ()


def shipped_space(name: str) -> Path | None:
    """The file of a shipped space, or None where there is none of that name.

    Args:
        name: ``quickstart``; also as the files themselves write it, ``search_spaces/quickstart.yaml``, so that the
            command at the head of each works from an installed package too.
    """
    stem = name.removeprefix(f"{FOLDER}/").removesuffix(SUFFIX)
    folder = _folder()
    return folder / f"{stem}{SUFFIX}" if folder is not None and stem in shipped_names() else None
