"""A throwaway PostgreSQL server of Debian's package, in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "p@ss:word/%"
"""Every character that has a meaning in a URL."""


def programs() -> Path | None:
    """Find the folder that holds initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def server(binaries: Path) -> Iterator[int]:
    """Start a server that asks user `lab` for PASSWORD; give its port on 127.0.0.1."""
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
        _call(user, folder, *control, "-w", "-o", options, "start")
        try:
            yield port
        finally:
            _call(user, folder, *control, "-w", "-m", "immediate", "stop")
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
