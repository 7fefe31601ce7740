"""What a user's code raised, on one line that says where."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from prune_search.recipe.problems import Problem, UserError
from prune_search.tasks.raised import as_user_error, raised


def caught(call: object) -> BaseException:
    try:
        call()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_innermost_line_of_theirs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text("import torch\n\ndef call():\n    torch.zeros(2) @ torch.zeros(3)\n")
    module = ModuleType("theirs")
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    text = raised(caught(module.call))
    assert text.startswith("RuntimeError: ")
    assert text.endswith(f" (line 4 of {file})")
    assert "\n" not in text


def test_a_syntax_error_is_where_it_says() -> None:
    text = raised(caught(lambda: compile("x =", "their_task.py", "exec")))
    assert text.endswith("(line 1 of their_task.py)")


def test_what_is_a_line_for_the_user_already_stays() -> None:
    told = UserError([Problem("task.data", "3.png cannot be decoded")])
    with pytest.raises(UserError) as caught, as_user_error("the folder:", "task"):
        raise told
    assert caught.value is told


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit("odd")])
def test_whatever_is_raised_is_said_of_what_was_done_and_where(error: BaseException) -> None:
    with pytest.raises(UserError) as caught, as_user_error("the folder cannot be read:", "task.data"):
        raise error
    (problem,) = caught.value.problems
    assert problem.path == "task.data"
    assert problem.message.startswith(f"the folder cannot be read: {type(error).__name__}: odd (line ")
    assert caught.value.__cause__ is error


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), as_user_error("the folder:", "task"):
        raise KeyboardInterrupt


def test_long_words_are_cut() -> None:
    def call() -> None:
        raise ValueError("word " * 1000)

    assert len(raised(caught(call)).partition(" (line")[0]) == len("ValueError: ") + 300
