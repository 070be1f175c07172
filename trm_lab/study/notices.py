"""Signals that ask a job to leave, heard from its first moment on."""

import signal
from collections.abc import Callable

LEAVE = (signal.SIGTERM, signal.SIGUSR2)
"""Signals that ask to leave: of who wants the place, and of the end of the wall time."""


class Notices:
    """The signals that asked this process to leave; those that come early wait for an answer.

    To be made before anything heavy is imported: SLURM's notice may come any time, and submitit's
    own answer to it is an error here.
    """

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.answer: Callable[[int], None] | None = None
        for number in LEAVE:
            signal.signal(number, self._hear)
        # Who started us may have kept them back until now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)

    def _hear(self, number: int, _: object) -> None:
        self.heard.append(number)
        if self.answer is not None:
            self.answer(number)

    def answered_by(self, answer: Callable[[int], None]) -> None:
        """Let this be called at every signal, and now for those that came before.

        One that comes at this very moment may be told twice.
        """
        self.answer = answer
        for number in tuple(self.heard):
            answer(number)

    @property
    def of_wall_time(self) -> bool:
        """Whether the end of the wall time came first."""
        return self.heard[:1] == [signal.SIGUSR2]
