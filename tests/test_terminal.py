"""The terminal of the screenshots shows what a real one shows of a display that is drawn again and again."""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console
from rich.live import Live
from terminal import Screen, screens, typed_in


def test_a_display_that_is_drawn_again_stands_there_once() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=30)
    with Live("one of three\nbest: none", console=console, auto_refresh=False) as live:
        console.print("[red]a trial[/] ended")
        live.update("three of three\nbest: snip", refresh=True)
    screen = Screen(30)
    assert isinstance(console.file, io.StringIO)
    # As the system writes the end of a line to a terminal.
    screen.write(console.file.getvalue().replace("\n", "\r\n"))
    assert screen.text() == "a trial ended\nthree of three\nbest: snip\n"
    assert "\x1b[31ma trial" in screen.text(colours=True)


def test_a_program_finds_a_terminal_of_the_width_that_is_asked_for() -> None:
    code = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns); print('x' * 25)"
    status, pieces = typed_in([sys.executable, "-c", code], 20, os.environ)
    assert status == 0
    assert screens(pieces, 20)[-1].text() == f"True 20\n{'x' * 20}\n{'x' * 5}\n"
