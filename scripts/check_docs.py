"""Check the documentation: links between files, and the command line's help in docs/cli.md.

`python scripts/check_docs.py --write` writes the help anew.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLI_PAGE = ROOT / "docs" / "cli.md"
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def broken_links() -> list[str]:
    """Relative links in Markdown files that lead nowhere."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [
        f"{page.relative_to(ROOT)}: {target} does not exist"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]


def cli_page() -> str:
    """The page of help texts, made from the commands themselves."""
    os.environ["COLUMNS"] = "100"
    from ttscale.cli import help_pages

    parts = ["# The command line", "", "Written by `scripts/check_docs.py --write`.", ""]
    for name, text in help_pages():
        parts += [f"## {name}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)


def main() -> int:
    """Print what is wrong and return 1, or return 0."""
    page = cli_page()
    if "--write" in sys.argv[1:]:
        CLI_PAGE.write_text(page, encoding="utf-8")
    problems = broken_links()
    if not CLI_PAGE.exists() or CLI_PAGE.read_text(encoding="utf-8") != page:
        problems.append("docs/cli.md is stale: run scripts/check_docs.py --write")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
