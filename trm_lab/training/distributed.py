"""One run on several processes: who they are, and what they tell each other.

Every process (a rank) holds all weights and works on its own share of the slots, so that the run is
the one that a single process with the same batch does, up to the order of sums.  Gradients are
summed by one plain `all_reduce` and not by `DistributedDataParallel`: the core is a function of
named tensors without a module to wrap, `torch.autograd.grad` fires none of the hooks that wrapper
lives on, and the sum has to come once per update, after all of its supervision steps.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from trm_lab.errors import ConfigError, RankLostError, RunBusyError

T = TypeVar("T")

TIMEOUT_SECONDS = 600.0
"""Longest wait for another rank.  Between two exchanges lies an update, a share of an evaluation or
the writing of a checkpoint."""
CAUSE = "trm_lab/cause"
"""Where a rank that fails leaves word for the others."""
SHARED = (ConfigError, RunBusyError, OSError)
"""Errors that a user can act on: one rank's is raised by all, so that the first can print it."""


@dataclass(frozen=True)
class Group:
    """The processes of one run, seen from one of them.

    What sums, gathers, tells or compares has to be called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    """What this rank computes on; None leaves it to the execution settings."""
    store: Any = field(default=None, repr=False, compare=False)
    """torch's store of keys and values that all ranks see; None in one process."""

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def slots(self, count: int) -> slice:
        """Give this rank's part of so many slots, or of anything else that is shared in order.

        The parts of all ranks are contiguous, in the order of the ranks, and differ by one at most.
        """
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def share(self, whole: Tensor) -> Tensor:
        """Give this rank's part of what all have, along the first axis."""
        return whole if self.size == 1 else whole[self.slots(len(whole))].clone()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that cannot be shared equally.

        Raises:
            ConfigError: the number of processes does not divide it.
        """
        if batch % self.size == 0:
            return
        fewer = max(n for n in range(1, self.size) if batch % n == 0)
        more = next((n for n in range(self.size + 1, batch + 1) if batch % n == 0), None)
        near = f"{fewer} or {more}" if more else f"{fewer}"
        lower, upper = batch // self.size * self.size, -(-batch // self.size) * self.size
        batches = f"{lower} or {upper}" if lower else f"{upper}"
        raise ConfigError(
            f"train.batch: {batch} slots cannot be shared equally by {self.size} processes; use "
            f"{near} processes, or a batch of {batches}"
        )

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Sum each tensor over the ranks, in its own type: the same bits on every rank."""
        found = list(tensors)
        if self.size == 1:
            return found
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            places = [i for i, t in enumerate(tensors) if t.dtype == dtype]
            flat = torch.cat([tensors[i].detach().reshape(-1) for i in places])
            with self._waiting("summing"):
                dist.all_reduce(flat)
            parts = torch.split(flat, [tensors[i].numel() for i in places])
            for i, part in zip(places, parts, strict=True):
                found[i] = part.view(tensors[i].shape)
        return found

    def gathered(self, mine: Tensor) -> Tensor:
        """Join the tensors of all ranks, equal in shape, along the first axis."""
        if self.size == 1:
            return mine
        # As bytes: not every backend knows every type.
        flat = mine.detach().contiguous().view(-1).view(torch.uint8)
        parts = [torch.empty_like(flat) for _ in range(self.size)]
        with self._waiting("gathering"):
            dist.all_gather(parts, flat)
        return torch.cat(parts).view(mine.dtype).view(-1, *mine.shape[1:])

    def listed(self, mine: T) -> list[T]:
        """Give what every rank has, in their order."""
        if self.size == 1:
            return [mine]
        found: list[T | None] = [None] * self.size
        with self._waiting("gathering"):
            dist.all_gather_object(found, mine)
        return found  # type: ignore[return-value]

    def told(self, value: T) -> T:
        """Give what the first rank has."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        with self._waiting("listening"):
            dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def each(self, act: Callable[[], T]) -> T:
        """Let every rank act and give it its own result; an error of one is raised by all.

        Errors that are not in `SHARED` end the rank, which the others then notice.
        """
        if self.size == 1:
            return act()
        error: Exception | None = None
        try:
            result = act()
        except SHARED as raised:
            error = raised
        for other in self.listed(error):
            if other is not None:
                raise error or other
        return result

    def leading(self, act: Callable[[], T]) -> T:
        """Let the first rank act and give its result to all, or raise its error on all."""
        mine = self.each(lambda: act() if self.first else None)
        return self.told(mine)  # type: ignore[return-value]

    def agree(self, **values: object) -> None:
        """Make sure that all ranks were given the same.

        Raises:
            ConfigError: they were not.
        """
        every = self.listed(values)
        for rank, other in enumerate(every):
            for name, value in every[0].items():
                if other[name] != value:
                    raise ConfigError(
                        f"{name}: rank 0 has {value} and rank {rank} has {other[name]}; all "
                        "processes of a run need the same"
                    )

    def check_same(self, tensors: Sequence[Tensor]) -> None:
        """Make sure that all ranks hold the same bits.

        Raises:
            RuntimeError: they do not, as when their processors round differently.
        """
        if self.size == 1:
            return
        mine = torch.stack([_digest(t) for t in tensors])
        every = self.gathered(mine).view(self.size, -1)
        if bool((every != every[0]).any()):
            raise RuntimeError(
                f"the weights of the {self.size} processes are no longer the same; give the run "
                "machines of one kind"
            )

    @contextmanager
    def _waiting(self, doing: str) -> Iterator[None]:
        """Say which rank failed, if it could still tell."""
        try:
            yield
        except RuntimeError as error:  # what every backend raises, for lost peers and for time-outs
            cause = self._cause()
            told = cause or "another process died or did not answer in time"
            raise RankLostError(
                f"rank {self.rank} of {self.size}, {doing}: {told} ({_line(error)})"
            ) from error

    def _cause(self) -> str | None:
        if self.store is None:
            return None
        with suppress(RuntimeError):  # the store may have gone with the rank that kept it
            if self.store.check([CAUSE]):
                return str(self.store.get(CAUSE), "utf-8")
        return None


SOLO = Group()
"""One process."""


@contextmanager
def joined(
    device: Literal["auto", "cpu", "cuda"] = "auto", timeout: float = TIMEOUT_SECONDS
) -> Iterator[Group]:
    """Belong to the group that the environment names: one process unless WORLD_SIZE is above 1.

    Reads what torchrun sets, and submitit's `TorchDistributedEnvironment().export()`: WORLD_SIZE,
    RANK, MASTER_ADDR, MASTER_PORT and LOCAL_RANK.  NCCL on CUDA, where each process takes the
    device of its LOCAL_RANK, gloo on CPU.  No rank waits for another for more than `timeout`
    seconds.  A block that ends with an error tells it to the other ranks.

    Raises:
        ConfigError: the environment is incomplete or names a device that is not there.
        RankLostError: the others did not come in time.
    """
    group = _join(device, timeout)
    try:
        yield group
    except BaseException as error:
        _leave(group, error)
        raise
    _leave(group, None)


def _join(device: Literal["auto", "cpu", "cuda"], timeout: float) -> Group:
    size = _number("WORLD_SIZE", 1)
    if size <= 1:
        return SOLO
    rank = _number("RANK")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ConfigError(f"{name}: not set, and WORLD_SIZE={size} needs it; start by torchrun")
    if rank not in range(size):
        raise ConfigError(f"RANK={rank}: must be 0 to {size - 1}, as WORLD_SIZE={size}")
    place = _device(device)
    wait = timedelta(seconds=timeout)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", rank, size, timeout=wait))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=wait)
    except RuntimeError as error:
        raise RankLostError(
            f"rank {rank} of {size}: the processes did not find each other within {timeout:g} s "
            f"({_line(error)})"
        ) from error
    return Group(rank, size, place, store)


def _leave(group: Group, error: BaseException | None) -> None:
    if group.size == 1:
        return
    if error is None:
        with group._waiting("leaving"):
            dist.barrier()
    elif group.store is not None and not isinstance(error, RankLostError):
        with suppress(RuntimeError):  # the store may be gone
            text = f"rank {group.rank}: {type(error).__name__}: {error}"
            group.store.compare_set(CAUSE, "", text)
    # After an error NCCL would wait here for work that never ends; the end of the process frees it.
    if error is None or group.device is None or group.device.type == "cpu":
        dist.destroy_process_group()


def _device(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    count = torch.cuda.device_count() if asked != "cpu" else 0
    if asked == "cuda" and not count:
        raise ConfigError("device: cuda was asked for, but torch sees no CUDA device")
    if not count:
        return torch.device("cpu")
    local = _number("LOCAL_RANK")
    # A launcher may show each process its own device alone.
    index = 0 if count == 1 else local
    if index >= count:
        raise ConfigError(f"LOCAL_RANK={local}: there are {count} CUDA devices for this process")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if not text and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ConfigError(f"{name}={text or ''}: must be a whole number") from None


def _digest(tensor: Tensor) -> Tensor:
    """Sum the 32-bit words of a tensor, each times its place, modulo 2^64."""
    words = tensor.detach().contiguous().view(-1).view(torch.int32).long()
    return (words * torch.arange(1, len(words) + 1, device=words.device)).sum()


def _line(error: BaseException) -> str:
    """Give the first line of an error: backends append their stack."""
    return (str(error).splitlines() or [type(error).__name__])[0]
