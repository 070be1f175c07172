"""A throwaway PostgreSQL server of Debian's package, in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

PASSWORD = "p@ss:word/%"
"""Every character that has a meaning in a URL."""


def programs() -> Path | None:
    """Find the folder that holds initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    """On 127.0.0.1."""
    start: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def server(binaries: Path) -> Iterator[Server]:
    """Start a server that asks user `lab` for PASSWORD."""
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="trm-pg-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            account = pwd.getpwnam(user)
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        _call(user, folder, binaries / "initdb", "-D", folder / "data", "-U", "lab", "-E", "UTF8",
              "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")  # fmt: skip
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = binaries / "pg_ctl", "-D", folder / "data", "-l", folder / "log"
        start = partial(_call, user, folder, *control, "-w", "-o", options, "start")
        stop = partial(_call, user, folder, *control, "-w", "-m", "immediate", "stop")
        start()
        try:
            yield Server(port, start, stop)
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _call(user: str | None, folder: Path, *command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, user=user, text=True, timeout=120,
        stdout=subprocess.PIPE if "start" not in command else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
