"""Worker processes: what their server imports for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE = "import os\nimported_by = os.getpid()\ndef by_server(_):\n    return imported_by == os.getppid()\n"
SCRIPT = """
import json
from common.process_pool import ordered_map
import first, second
print(json.dumps([
    list(ordered_map(first.by_server, range(2), 2, preload=["second"])),
    list(ordered_map(second.by_server, range(2), 2)),
]))
"""


def test_the_first_call_has_the_modules_of_a_later_one_imported_once(tmp_path: Path) -> None:
    """Each module remembers the process that imported it: the server of the workers, which is their parent."""
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[True, True], [True, True]]
