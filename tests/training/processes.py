"""Several real processes in one group, for tests: gloo on this machine."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from trm_lab.training.distributed import Group, joined

SECONDS = 120.0
"""A test in which nothing has happened for so long has hung."""
# A server that has imported torch once; each process is a fork of it.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.training.processes", "trm_lab.training"])

Told = tuple[str, Any]
"""("value", what was returned), (the error's type, its text), or ("died", exit code)."""


def together(
    act: Callable[..., Any], *args: Any, size: int = 2, timeout: float = 60.0
) -> list[Told]:
    """Call `act(group, *args)` in every process of a group; give what became of each.

    Once one has ended, a process that has stopped itself is given up as dead.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(size)]
    started = [
        CONTEXT.Process(target=_member, args=(pipe[1], rank, size, port, timeout, act, args))
        for rank, pipe in enumerate(pipes)
    ]
    for process in started:
        process.start()
    for _, end in pipes:
        end.close()
    told: list[Told | None] = [None] * size
    try:
        left = dict(enumerate(pipe[0] for pipe in pipes))
        while left:
            ready = wait(list(left.values()), timeout=SECONDS)
            assert ready, f"ranks {sorted(left)} hang; the others: {told}"
            for rank in [rank for rank, pipe in left.items() if pipe in ready]:
                try:
                    told[rank] = left[rank].recv()
                except EOFError:
                    started[rank].join()
                    told[rank] = ("died", started[rank].exitcode)
                del left[rank]
            if left and all(_stopped(started[other].pid) for other in left):
                for rank in left:
                    told[rank] = ("stopped", None)
                break
    finally:
        for process in started:
            process.kill()
            process.join()
    return [one for one in told if one is not None]


def values(told: list[Told]) -> list[Any]:
    """Give what all processes returned."""
    assert [kind for kind, _ in told] == ["value"] * len(told), told
    return [value for _, value in told]


def _member(
    pipe: Any, rank: int, size: int, port: int, timeout: float, act: Any, args: tuple[Any, ...]
) -> None:
    os.environ |= {
        "WORLD_SIZE": str(size), "RANK": str(rank), "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        with joined("cpu", timeout) as group:
            found = act(group, *args)
    except BaseException as error:
        pipe.send((type(error).__name__, str(error)))
    else:
        pipe.send(("value", found))


def _stopped(pid: int | None) -> bool:
    """Say whether a process is stopped by a signal (state T)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended, and its pipe is about to tell
        return False
    return text.rpartition(")")[2].split()[0] == "T"


__all__ = ["Group", "Told", "together", "values"]
