"""Ray's life: one for a whole command, brought up in the background while other things are read, shut down without a crash."""

from __future__ import annotations

import gc
import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from orchestrator.config import SearchSection
from orchestrator.errors import UserError
from orchestrator.search.address import check_address
from orchestrator.search.interrupt import handlers_kept, rearm
from orchestrator.search.ray_daemons import dead_processes, end_at_once, leave_signals_to_us, only_needed, own_node
from orchestrator.search.ray_environment import prepare_environment
from trainables.allocator import collector_at_rest
from trainables.cores import usable_cpus

OBJECT_STORE = 128 * 2**20
"""Bytes of a local Ray's object store: trials send one line an epoch, images travel through the node's cache."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}


class _Own(threading.Thread):
    """A Ray of our own, in the thread that starts its processes and outlives them: Linux ends a child with its thread."""

    def __init__(self, search: SearchSection) -> None:
        super().__init__(name="ray", daemon=True)
        wanted = math.ceil((1 if search.backend == "slots" else max(search.concurrency, 1)) * search.cpus_per_trial)
        self._cpus = max(usable_cpus(), wanted)
        self._up, self._over = threading.Event(), threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Start it and stay."""
        import ray

        try:
            leave_signals_to_us()
            try:
                with only_needed():
                    ray.init(
                        address="local", num_cpus=self._cpus, include_dashboard=False, object_store_memory=OBJECT_STORE, **QUIET
                    )  # fmt: skip
            finally:
                end_at_once()
                rearm()
        except BaseException as error:
            self._error = error
        self._up.set()
        self._over.wait()

    def wait(self) -> None:
        """Return when it is up; raises what kept it from coming up."""
        self._up.wait()
        if self._error is not None:
            raise self._error

    @property
    def lost(self) -> bool:
        """Return whether one of its processes is gone."""
        return own_node() is None or bool(dead_processes())

    def end(self) -> None:
        """Shut it down, once it is up, and end its thread."""
        self._up.wait()
        try:
            _shut_down()
        finally:
            self._over.set()
        self.join()


class _Life:
    """The Ray of this process that is ours, and how many blocks keep it."""

    own: _Own | None = None
    blocks = 0


@contextmanager
def one_ray() -> Iterator[None]:
    """Keep a Ray of our own, once it is started inside the block, for all that follows in it; shut it down at the end."""
    _Life.blocks += 1
    try:
        yield
    finally:
        _Life.blocks -= 1
        if not _Life.blocks and _Life.own is not None:
            _end_own()


def begin_ray(search: SearchSection) -> None:
    """Import Ray, begin to bring up one of our own, and return; nothing is begun for a cluster, or where there is a Ray.

    Inside `one_ray`, which ends it. Starting takes seconds in which Ray's processes wait for each other.
    """
    assert _Life.blocks, "begin_ray outside one_ray"
    _import_ray(search.address)
    import ray

    if search.address == "local" and _Life.own is None and not ray.is_initialized():
        _Life.own = _Own(search)
        _Life.own.start()


@contextmanager
def ray_session(search: SearchSection) -> Iterator[None]:
    """Have a Ray of our own, or join the cluster at `search.address`; a Ray that this process already has is used and left."""
    with one_ray():
        joins = not _present(search)
        if joins:
            _join(search.address)
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if joins or _Life.own is not None:
            gc.freeze()  # until Ray is shut down: what is imported by now need not be searched again
        try:
            yield
        finally:
            if joins:
                _shut_down()


def _present(search: SearchSection) -> bool:
    """Return whether this process has a Ray, once its own is up: begun before or now, and again where it has died meanwhile."""
    begin_ray(search)
    import ray

    if _Life.own is None:
        return bool(ray.is_initialized())
    _Life.own.wait()
    if _Life.own.lost:
        _end_own()
        return _present(search)
    return True


def _import_ray(address: str) -> None:
    """Import Ray in the environment that it is to have."""
    prepare_environment(address)
    with collector_at_rest():
        import ray  # noqa: F401


def _end_own() -> None:
    own, _Life.own = _Life.own, None
    if own is not None:
        own.end()


def _join(address: str) -> None:
    import ray

    check_address(address)  # Ray itself would go on trying for minutes
    try:
        with handlers_kept():
            ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"search.address: no Ray cluster at {address!r} ({str(error).splitlines()[0]}); start one with `ray start --head` "
            "or `ray up cluster.yaml`, and set RAY_AUTH_MODE and the token as on its nodes"
        ) from error


def _shut_down() -> None:
    """Shut Ray down with the garbage collector at rest: a Ray reference freed in that moment would end the whole process."""
    import ray

    gc.collect()
    active = gc.isenabled()
    gc.disable()
    try:
        with suppress(Exception):
            ray.shutdown()
    finally:
        if active:
            gc.enable()
        gc.unfreeze()
