"""`trm-lab` that is killed at a chosen moment: python -m tests.study.mortal FOLDER N ARGUMENT...

Nothing in the command is replaced.  Python tells of every file that is opened, renamed or removed
and of every process that is started; at the N-th change of this kind below FOLDER the process sends
itself SIGKILL.  So a moment is a place in the work, whatever the load of the machine.
"""

import os
import signal
import sys
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.symlink", "os.truncate", "os.utime")


def killed_at(folder: str, moment: int) -> None:
    """Let the process be killed at the change of that number."""
    left = [moment]

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else False
            paths = (path,) if writes else ()
        elif event in CHANGES:
            paths = args[:2]
        else:
            paths = (folder,) if event == "subprocess.Popen" else ()
        if any(isinstance(p, str | os.PathLike) and os.fspath(p).startswith(folder) for p in paths):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


if __name__ == "__main__":
    from trm_lab.cli import main

    folder, moment, *arguments = sys.argv[1:]
    killed_at(folder, int(moment))
    sys.argv = ["trm-lab", *arguments]
    main()
