"""Ray's environment variables, set before Ray is imported: quiet, no telemetry, a token, our own signals and snapshots."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""What the user's own environment does not say is set so; the ledger, not Tune's snapshots, is what a search goes on from.

Ray would start idle workers that Tune's trials, in an environment of their own, never use. Tune would start the workers of a
custom searcher one after another; ours never hands out more trials than find room.
"""


def prepare_environment(address: str) -> None:
    """Set the variables; a Ray of our own gets a token that lives in this process and is never written to a file.

    A cluster is joined with the token that is there: `ray start` makes one, of which Ray's own client has to be told. Not where
    Ray was imported before: by then it has read whether to use one, and its processes would refuse each other.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    known = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or (Path.home() / ".ray/auth_token").exists()
    if (address != "local" and not known) or ("ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ):
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and not known:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
