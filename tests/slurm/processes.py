"""Processes and ports of a throwaway cluster: found, started, ended."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

SBIN = os.pathsep.join(["/usr/sbin", "/sbin"])
"""Where daemons lie; an ordinary user's PATH does not name it."""


def which(name: str) -> str | None:
    """Find a program, daemons too."""
    return shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + SBIN)


def wait_for(what: str, check: Callable[[], object], timeout: float, every: float = 0.05) -> None:
    """Wait until a check holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    end = time.monotonic() + timeout
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(every)


def free_ports(count: int) -> int:
    """Give the first of so many consecutive ports that nobody is bound to.

    Below the ephemeral range; consecutive because a range of nodes wants a range of ports.
    """
    for _ in range(100):
        first = random.randrange(20000, 30000)
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].bind(("0.0.0.0", port))
            return first
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
    raise RuntimeError("no free ports")


def start_daemon(
    program: str, *arguments: str, log: Path, cwd: Path, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, which dies with this process, however that dies."""
    path, setpriv = which(program), which("setpriv")
    assert path, program
    assert setpriv
    with open(log, "ab") as out:
        return subprocess.Popen(
            [setpriv, "--pdeathsig", "KILL", "--", path, *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=cwd,
            env=env,
        )  # fmt: skip


def kill(pids: Iterable[int], sig: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to processes, those that are gone excepted."""
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue


def environment(pid: int) -> dict[str, str]:
    """Read the environment with which a process was started; empty if it is gone."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(x.split("=", 1) for x in raw.decode(errors="replace").split("\0") if "=" in x)


def open_files(pid: int) -> list[str]:
    """Name the files that a process has open; empty if it is gone."""
    try:
        return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def all_pids() -> list[int]:
    """Give every process of this machine, zombies excepted: they only wait to be counted."""
    return [pid for p in Path("/proc").iterdir() if p.name.isdigit() and alive(pid := int(p.name))]


def alive(pid: int) -> bool:
    """Say whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
