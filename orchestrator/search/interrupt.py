"""What ends a search early: a spent time budget, somebody who asks, Ctrl-C, SIGTERM or SIGHUP; everything is kept."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

TIME_BUDGET, ASKED = "time_budget", "asked"
AGAIN_S = 0.05
"""Seconds until a signal whose exception was forgotten comes again."""


class Ending:
    """Says whether a search should end early, and why; the time starts when this is made."""

    def __init__(self, *, time_budget_s: float = 0.0, stop: Callable[[], bool] | None = None) -> None:
        self._deadline = time.monotonic() + time_budget_s if time_budget_s else float("inf")
        self._stop = stop

    def reason(self) -> str:
        """Return "" to go on, TIME_BUDGET (trials under way count as stopped) or ASKED (they can go on later)."""
        if time.monotonic() >= self._deadline:
            return TIME_BUDGET
        return ASKED if self._stop is not None and self._stop() else ""


class Signalled(KeyboardInterrupt):
    """A signal ends what is running now; not an Exception, so that nobody who catches those swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """Return the shell's exit code for this signal: 130 (Ctrl-C), 143 (SIGTERM), 129 (SIGHUP)."""
        return 128 + self.signum


def rearm() -> None:
    """Let the handlers that Python knows be called again, from any thread: Ray takes SIGTERM over as it comes up.

    Ray's own would print where each thread is, and abort the process three seconds later.
    """
    for name in ("PyOS_getsig", "PyOS_setsig"):
        getattr(ctypes.pythonapi, name).restype = ctypes.c_void_p
    ctypes.pythonapi.PyOS_setsig.argtypes = (ctypes.c_int, ctypes.c_void_p)
    if callable(signal.getsignal(signal.SIGINT)):  # which Ray leaves alone
        pythons = ctypes.pythonapi.PyOS_getsig(int(signal.SIGINT))
        for number in SIGNALS:
            if callable(signal.getsignal(number)):
                ctypes.pythonapi.PyOS_setsig(int(number), pythons)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of signals back as they were before the block, in which Ray sets its own (in the main thread only)."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def signals(first: Callable[[int], None]) -> Iterator[None]:
    """Call `first(signal)` on the first signal, and on a second one raise Signalled with the first one's number.

    Old handlers return afterwards. Handlers are set also where a parent had the signal ignored (`cmd &`), but for SIGHUP:
    `nohup` wants it ignored. Off the main thread nothing is changed. Python forgets what is raised in a finaliser or in a
    callback (of the garbage collector, of a weak reference): such a signal comes again, for the old handler if this is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        seen.append(signum)
        if len(seen) > 1:
            raise Signalled(seen[0])
        first(signum)

    def forgotten(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Signalled):
            hook(what)
            return
        del seen[-1:]
        threading.Timer(AGAIN_S, send_to_main, (what.exc_value.signum,)).start()

    hook = sys.unraisablehook
    with handlers_kept():
        try:
            sys.unraisablehook = forgotten
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN or number != getattr(signal, "SIGHUP", None):
                    signal.signal(number, handle)
            yield
        finally:
            sys.unraisablehook = hook


def send_to_main(signum: int) -> None:
    """Send a signal to the main thread, which alone hears signals, so that it wakes from what it waits for."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signum)
    else:
        os.kill(os.getpid(), signum)


def raise_now(signum: int) -> None:
    """Raise Signalled at once: the `first` of a search that trains in this very process."""
    raise Signalled(signum)
