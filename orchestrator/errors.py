"""Errors that reach the command line as one clear message: the user's own mistakes (exit code 2) and failed runs (1)."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: says the key, what came, what is allowed and the next step. Exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """An experiment file (or override) that does not hold: one line a problem, each with file, line and key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunFailed(Exception):
    """A run that could not be finished: what happened, what is kept, how to go on. Exit code 1."""

    exit_code = 1
