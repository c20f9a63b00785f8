"""Several processes that work as one: who does what, sums over all, what the first one does while the others wait.

`torchrun --nproc-per-node N -m posttrain run RECIPE` starts N processes (ranks) of the same program. A stage that is
`together` runs in all of them: micro-batches are dealt out (`split`), what each found is put together (`gather`), and
every rank then knows the same. All other work is `led` by rank 0. Only rank 0 writes into the run directory. With one
process every function here is the identity, and torch is not imported. Weights in shards and checkpoints: shards.py.

Left out on purpose: tensor, pipeline and expert parallelism, elasticity, launching (torchrun, Slurm, Kubernetes do it).
"""

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from posttrain.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
BLOCK = 64  # items of a rank in `each` before results are exchanged
STUCK = timedelta(minutes=10)  # a gradient exchange that takes longer has lost a process
PATIENCE = timedelta(days=7)  # for the others, while rank 0 works alone
LOST = ("closed by peer", "reset by peer", "Timed out", "timed out", "Broken pipe", "NCCL", "Connection refused")


@dataclass(frozen=True)
class _Ranks:
    world: int = 1
    rank: int = 0
    patient: Any = None  # the group for everything but gradients: it may have to wait for rank 0
    store: Any = None


_now = _Ranks()


def world() -> int:
    """How many processes work together at this moment."""
    return _now.world


def rank() -> int:
    """The number of this one; rank 0 writes and speaks."""
    return _now.rank


def group() -> Any:
    """The process group that waits long, for what is no gradient; None when alone."""
    return _now.patient if _now.world > 1 else None


@contextmanager
def started() -> Iterator[None]:
    """Join the processes that a launcher started (WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT); alone: nothing happens.

    A process that the others lose ends them too, with one message; being told to end (SIGTERM) counts as Ctrl-C.
    """
    global _now
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    import torch
    from torch import distributed as dist
    from torch.distributed.rendezvous import rendezvous

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, number, size = next(rendezvous("env://"))
    kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(kind, store=store, rank=number, world_size=size, timeout=STUCK)
    _now = _Ranks(size, number, dist.new_group(backend="gloo", timeout=PATIENCE), store)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        raise UserError(
            "another process of this run has ended or cannot be reached, so this one stops too",
            where=f"rank {number} of {size}",
            remedy="its own message, if it left one, says why; the same command goes on from the last checkpoint",
        ) from error
    else:
        dist.barrier(group=_now.patient)
        dist.destroy_process_group()
        _now = _Ranks()
    finally:
        signal.signal(signal.SIGTERM, before)


def speaks() -> bool:
    """Whether this process tells people what went wrong: the first of them that asks, for the others only follow."""
    if _now.store is None:
        return True
    try:
        return bool(_now.store.add(f"complaints {os.environ.get('TORCHELASTIC_RESTART_COUNT', '')}", 1) == 1)
    except RuntimeError:  # the store went with the process that held it
        return True


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process is the only one, as far as world() and everything built upon it goes."""
    global _now
    before, _now = _now, replace(_now, world=1, rank=0)
    try:
        yield
    finally:
        _now = before


def led(work: Callable[[], T]) -> T:
    """Rank 0 does the work alone; the others wait, however long it takes, and get what it returned."""
    if _now.world == 1:
        return work()
    with alone() if _now.rank == 0 else nullcontext():
        found = work() if _now.rank == 0 else None
    return agreed(found)  # type: ignore[return-value]


def agreed(value: T) -> T:
    """What rank 0 says. For everything that two processes could see differently: clocks, files, caches."""
    if _now.world == 1:
        return value
    from torch import distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, group=_now.patient)
    return box[0]


def gather(value: T) -> list[T]:
    """Every rank's value, in order."""
    if _now.world == 1:
        return [value]
    from torch import distributed as dist

    found: list[Any] = [None] * _now.world
    dist.all_gather_object(found, value, group=_now.patient)
    return found


def total(sums: Mapping[str, float]) -> dict[str, float]:
    """Sums over all ranks, name by name; a rank may lack some. Added up in the ranks' order, so all get the same."""
    if _now.world == 1:
        return dict(sums)
    found: dict[str, float] = {}
    for part in gather(dict(sums)):
        for name, x in part.items():
            found[name] = found.get(name, 0.0) + x
    return found


def split(sizes: Sequence[float], ranks: int) -> list[list[int | None]]:
    """Items for each rank, round by round; None where a round has no item left for it.

    Ranks wait for each other after every item, so those of one round are of like size (largest first); within a round
    the largest goes to the rank that has least so far. A function of its arguments alone.
    """
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    load, found = [0.0] * ranks, [[] for _ in range(ranks)]  # type: ignore[var-annotated]
    for start in range(0, len(order), ranks):
        least = sorted(range(ranks), key=lambda r: (load[r], r))
        dealt = dict(zip(least, order[start : start + ranks]))
        for r in range(ranks):
            found[r].append(dealt.get(r))
            load[r] += sizes[dealt[r]] if r in dealt else 0
    return found


def shares(micro: Sequence[Sequence[int]], sizes: Sequence[float]) -> Iterator[tuple[Sequence[int], bool]]:
    """This rank's micro-batches of a step, and whether they count.

    Forward and backward are work in common, so a rank that has nothing left goes along with the step's smallest
    micro-batch, which does not count: its loss is to be divided by infinity. sizes: of rows.
    """
    if _now.world == 1:
        yield from ((indices, True) for indices in micro)
        return
    heavy = [sum(sizes[i] for i in indices) for indices in micro]
    smallest = min(range(len(micro)), key=lambda k: heavy[k])
    for k in split(heavy, _now.world)[_now.rank]:
        yield micro[smallest if k is None else k], k is not None


def each(items: Iterable[T], work: Callable[[T], R], size: Callable[[T], float]) -> Iterator[tuple[T, R]]:
    """(item, work(item)) in order, every rank doing its share; all of them get all results.

    work is called equally often in every rank, since a forward pass is work in common. Results travel pickled.
    """
    if _now.world == 1:
        for item in items:
            yield item, work(item)
        return
    rest = iter(items)
    while block := list(islice(rest, BLOCK * _now.world)):
        sizes = [size(item) for item in block]
        smallest, mine = sizes.index(min(sizes)), {}
        for k in split(sizes, _now.world)[_now.rank]:
            result = work(block[smallest if k is None else k])
            if k is not None:
                mine[k] = result
        found = {k: result for part in gather(mine) for k, result in part.items()}
        yield from ((item, found[k]) for k, item in enumerate(block))


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Where a stage writes: `out` for rank 0, for the others a directory that is thrown away.

    So a stage needs no word about ranks. What is read back from `out` must be `agreed` upon.
    """
    if _now.rank == 0:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="posttrain-") as scratch:
        yield Path(scratch)
