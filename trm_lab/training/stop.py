"""Stopping a run from outside, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from trm_lab.runs import State
from trm_lab.training.distributed import Group

BY_HAND = "cancelled by hand"
"""Said of a run in whose folder a word was left that it is to stop."""


class Stopped(Exception):
    """The run leaves because it was asked to."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Stop:
    """A request to stop, made by a signal handler or another thread and seen by the run.

    The run ends the optimiser update it is in, or leaves the evaluation it is in after the current
    supervision step, writes a checkpoint and ends with the state asked for.
    """

    def __init__(self) -> None:
        self.state: State | None = None
        self.reason = ""

    def request(self, state: State, reason: str) -> None:
        """Ask for an end: WAITING if the run goes on later, CANCELLED if it does not.

        Only sets attributes, as a signal handler must.  The first request stays, but a cancelled
        run does not go on later.
        """
        if self.state is None or (self.state, state) == (State.WAITING, State.CANCELLED):
            self.reason = reason
            self.state = state  # last: who sees the state sees its reason

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self.state is not None

    def check(self) -> None:
        """Go on, or leave if asked to.

        Raises:
            Stopped: a stop was requested.
        """
        if self.state is not None:
            raise Stopped(self.state, self.reason)


def check_together(stop: Stop, group: Group, flag: bool) -> bool:
    """Go on or leave, all processes of a group alike; say whether any of them has the flag.

    Raises:
        Stopped: a stop of some process was requested.
    """
    if group.size > 1:
        # On the CPU, so that no device waits.
        (told,) = group.total([torch.tensor([int(stop.requested), int(flag)])])
        flag = bool(told[1])
        if told[0]:
            for state, reason in group.listed((stop.state, stop.reason)):
                if state is not None:
                    stop.request(state, reason)
    stop.check()
    return flag


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Give a stop that Ctrl-C (cancelled) and SIGTERM (waiting) request.

    A second Ctrl-C interrupts at once.  Outside the main thread signals are left as they are.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        if stop.state is State.CANCELLED:
            raise KeyboardInterrupt
        stop.request(State.CANCELLED, "interrupted by Ctrl-C")

    def terminated(_signal: int, _frame: FrameType | None) -> None:
        stop.request(State.WAITING, "SIGTERM")

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupted),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminated),
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
