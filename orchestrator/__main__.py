"""The command line's front door: every error becomes one clear message and the right exit code, never a traceback."""

from __future__ import annotations

import atexit
import gc
import os
import sys

DEBUG = "ORCHESTRATE_DEBUG"
"""Set to anything, an unexpected error is shown with its traceback."""


def main() -> None:
    """Run the command line: exit code 0 done, 1 failed run, 2 usage or configuration, 130 Ctrl-C, 143 SIGTERM."""
    from orchestrator.cli import app
    from orchestrator.errors import Interrupted, RunFailed, UserError

    atexit.register(gc.freeze)  # last of all: else Python searches torch, Ray and MLflow for garbage, for seconds, as it ends
    try:
        app()
    except (UserError, RunFailed, Interrupted) as error:
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("interrupted; everything finished is kept", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (MemoryError, OSError) as error:
        _end(f"{type(error).__name__}: {error}", 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        where = "; ".join(getattr(error, "__notes__", [])) or f"{DEBUG}=1 shows the traceback"
        _end(f"unexpected error: {type(error).__name__}: {error}; please report it ({where})", 1)


def _end(message: str, code: int) -> None:
    print(f"orchestrate: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
