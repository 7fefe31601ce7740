"""A terminal of a given width: it runs a command, and says what stands on its screen at any moment."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fcntl import ioctl
from subprocess import Popen
from termios import TIOCSWINSZ

# What is understood of a terminal's language: colours, erasing a line or what follows, moving up and back.
CONTROL = re.compile(
    r"\x1b\[(?P<values>[0-9;?]*)(?P<letter>[A-Za-z])|\x1b[^\[]|(?P<move>[\r\n\b])|(?P<other>[\x00-\x1f])"
)
ROWS = 60


@dataclass
class Screen:
    """Lines of (character, its colours) with a cursor; as long as what was written to it.

    Attributes:
        columns: the width; longer lines go on in the next one.
    """

    columns: int
    lines: list[list[tuple[str, str]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    colours: str = ""

    def write(self, text: str) -> None:
        """Take what a program writes."""
        at = 0
        for found in CONTROL.finditer(text):
            self._put(text[at : found.start()])
            at = found.end()
            if found["move"] == "\n":
                self._line(self.row + 1)
            elif found["move"] == "\r":
                self.column = 0
            elif found["move"] == "\b":
                self.column = max(0, self.column - 1)
            elif found["letter"]:
                self._control(found["values"], found["letter"])
        self._put(text[at:])

    def text(self, colours: bool = False) -> str:
        """What stands there; with the colours as a terminal takes them."""
        drawn = []
        for line in self.lines:
            if not colours:
                drawn.append("".join(character for character, _ in line).rstrip())
                continue
            parts, before = [], ""
            for character, own in line:
                parts += [f"\x1b[0m{own}" if own != before else "", character]
                before = own
            drawn.append("".join(parts) + ("\x1b[0m" if before else ""))
        return "\n".join(drawn).rstrip("\n") + "\n"

    def _line(self, row: int) -> None:
        self.row = max(0, row)
        self.lines += [[] for _ in range(self.row + 1 - len(self.lines))]

    def _put(self, text: str) -> None:
        for character in text:
            if self.column == self.columns:
                self._line(self.row + 1)
                self.column = 0
            line = self.lines[self.row]
            line += [(" ", "")] * (self.column + 1 - len(line))
            line[self.column] = (character, self.colours)
            self.column += 1

    def _control(self, values: str, letter: str) -> None:
        number = int(values) if values.isdigit() else 1
        if letter == "m":
            self.colours = "" if values in ("", "0") else f"{self.colours}\x1b[{values}m"
        elif letter == "A":
            self._line(self.row - number)
        elif letter == "B":
            self._line(self.row + number)
        elif letter in "CD":
            self.column = max(0, min(self.columns, self.column + (number if letter == "C" else -number)))
        elif letter == "G":
            self.column = number - 1
        elif letter == "K":
            line = self.lines[self.row]
            del line[0 if values == "2" else self.column :]
        elif letter == "J":
            del self.lines[self.row][self.column :], self.lines[self.row + 1 :]


def typed_in(command: Sequence[str], columns: int, environment: Mapping[str, str]) -> tuple[int, list[str]]:
    """Run a command in a terminal.

    Returns:
        Its exit status, and what it wrote, piece by piece.
    """
    own, other = pty.openpty()
    ioctl(other, TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    with Popen(
        [*command], stdin=other, stdout=other, stderr=other, env={**environment, "TERM": "xterm-256color"}
    ) as run:
        os.close(other)
        pieces: list[bytes] = []
        while True:
            if select.select([own], [], [], 0.2)[0]:
                try:
                    piece = os.read(own, 65_536)
                except OSError:
                    # Linux says so where nobody holds the other end any more.
                    piece = b""
                if not piece:
                    break
                pieces.append(piece)
            elif run.poll() is not None:
                break
        os.close(own)
        return run.wait(), [piece.decode("utf-8", "replace") for piece in pieces]


def screens(pieces: Sequence[str], columns: int) -> list[Screen]:
    """The screen halfway through, and at the end."""
    found = []
    for end in (len(pieces) // 2, len(pieces)):
        screen = Screen(columns)
        screen.write("".join(pieces[:end]))
        found.append(screen)
    return found


if __name__ == "__main__":
    status, wrote = typed_in(sys.argv[1:], 80, os.environ)
    print(screens(wrote, 80)[-1].text())
    raise SystemExit(status)
