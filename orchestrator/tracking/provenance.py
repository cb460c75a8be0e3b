"""Where a run comes from: the git revision of the working folder, and who started it."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path


def git_revision(folder: Path) -> str:
    """Return the commit of the repository around `folder`, with "-dirty" for uncommitted changes; "" outside of one."""
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def user_name() -> str:
    """Return the user's login name, "" where the system does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
