"""Runs cells in a real kernel of Jupyter, in the current folder: ``python kernel_cells.py < cells.json``.

Cells are a list of {"code": …} on standard input; one with "interrupt", a glob, is interrupted as soon as there is such
a file. Printed is a list of {"status": …, "error": …, "drawn": [HTML or text, …]}. In a process of its own, since the
client of a kernel leaves sockets and event loops behind.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel


def main() -> None:
    """Run the cells one after another."""
    manager, client = start_new_kernel(kernel_name="python3")
    told = []
    try:
        for cell in json.load(sys.stdin):
            drawn: list[str] = []

            def see(message: dict[str, Any], drawn: list[str] = drawn) -> None:
                if message["msg_type"] in ("display_data", "update_display_data", "execute_result"):
                    content = message["content"]["data"]
                    drawn.append(content.get("text/html", content.get("text/plain", "")))

            def interrupt(pattern: str = cell.get("interrupt", "")) -> None:
                while not any(Path().glob(pattern)):
                    time.sleep(0.05)
                manager.interrupt_kernel()

            if "interrupt" in cell:
                threading.Thread(target=interrupt, daemon=True).start()
            reply = client.execute_interactive(cell["code"], timeout=300, output_hook=see)["content"]
            told.append({"status": reply["status"], "error": str(reply.get("evalue", "")), "drawn": drawn})
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
