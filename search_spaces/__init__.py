"""What may vary, as data: the named search spaces, and how a space of one's own is loaded. Standard library only."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path

from search_spaces.finetune import FINETUNE
from search_spaces.scratch import SCRATCH
from search_spaces.space import Space

SPACES: dict[str, Space] = {"scratch": SCRATCH, "finetune": FINETUNE}
"""name -> space: add a file, add a line."""


def load_space(text: str) -> Space:
    """Return the space of that name, or the variable SPACE of a Python file; raises ValueError saying what is allowed."""
    if text in SPACES:
        return SPACES[text]
    if not text.endswith(".py"):
        near = difflib.get_close_matches(text, SPACES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"space {text!r}: not known, allowed: {', '.join(SPACES)}, PATH.py or PATH.yaml{hint}")
    if not Path(text).is_file():
        raise ValueError(f"space {text!r}: no such file")
    found = runpy.run_path(text).get("SPACE")
    if not isinstance(found, Space):
        raise ValueError(f"space {text!r}: the file must set SPACE = Space(...), got {type(found).__name__}")
    return found
