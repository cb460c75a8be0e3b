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


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C: 130, SIGTERM: 143): what is finished is kept, `--resume` goes on."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code
