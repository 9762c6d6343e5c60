"""The page about DSPy tells the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "dspy.md"
BLOCKS = re.compile(r"```python\n(.*?)```\s*```text\n(.*?)```", re.DOTALL)


def test_program_on_the_page_prints_what_the_page_says(tmp_path: Path) -> None:
    """The first program, run as it stands, has the output that is shown below it."""
    found = BLOCKS.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    program, shown = found.groups()
    private = {**os.environ, "DSPY_CACHEDIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=private
    )

    assert done.stdout == shown
