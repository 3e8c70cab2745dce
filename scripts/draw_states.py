"""Draw what the documents repeat from the code: the changes of status and the table of imports.

    python scripts/draw_states.py            print the diagram of statuses
    python scripts/draw_states.py --write    put all drawings between their marks in the documents

A drawing stands between `<!-- drawn: NAME -->` and `<!-- end -->`; `tests/test_docs.py` compares.

Read next: `docs/replication.md`.
"""

from __future__ import annotations

import os
import re
import sys
from itertools import groupby

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    import bootstrap

    bootstrap.ensure(bootstrap.PACKAGES)


from replication import STATUS_CHANGES
from tests.test_house_rules import MAY_IMPORT, ROOT

PLACES = {"states": "docs/replication.md", "imports": "ARCHITECTURE.md"}
ARROW, BRANCH, LAST = "──▶ ", "├", "└"


def draw_states() -> str:
    """A tree for each status: what happens to it, what it becomes, and who does that."""
    after = max(len(status) for status, _ in STATUS_CHANGES.values())
    what = max(len(happened) for _, happened in STATUS_CHANGES)
    out = ["```"]
    for status, group in groupby(sorted(STATUS_CHANGES.items(), key=lambda row: _rank(row[0][0])), key=lambda row: row[0][0]):
        rows = list(group)
        out.append(status)
        for (_, happened), (becomes, method) in rows:
            stem = LAST if (_, happened) == rows[-1][0] else BRANCH
            out.append(f"  {stem}{ARROW}{becomes:{after}}   {happened:{what}}   {method}")
    return "\n".join([*out, "```"])


def _rank(status: str) -> int:
    """Statuses in the order in which the code first names them."""
    return list(dict.fromkeys(before for before, _ in STATUS_CHANGES)).index(status)


def draw_imports() -> str:
    """One row a module, in the order of the rings; those that import nothing of ours first, together."""
    rows = ["| module | may import, of ours |", "| --- | --- |"]
    rows.append(f"| {', '.join(f'`{module}`' for module, allowed in MAY_IMPORT.items() if not allowed)} | – |")
    rows += [f"| `{module}` | {', '.join(sorted(allowed))} |" for module, allowed in MAY_IMPORT.items() if allowed]
    return "\n".join(rows)


DRAWINGS = {"states": draw_states, "imports": draw_imports}


def between_marks(name: str) -> re.Pattern[str]:
    """Where the drawing stands in its document."""
    return re.compile(rf"(<!-- drawn: {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def redrawn(name: str, page: str) -> str:
    """The page with this drawing as the code has it now."""
    drawn = DRAWINGS[name]()
    return between_marks(name).sub(lambda found: f"{found[1]}{drawn}\n{found[3]}", page)


def main() -> None:
    """See the page of words."""
    if "--write" not in sys.argv[1:]:
        print(draw_states())
        return
    for name, place in PLACES.items():
        path = ROOT / place
        path.write_text(redrawn(name, path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
