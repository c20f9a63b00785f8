"""Tokens a second of supervised fine-tuning by 1, 2, ... processes on this machine, one thread each.

    python benchmarks/scaling.py 1 2

The bundled model, packs of 1,024 tokens, 4 of them a step, whole weights in fp32 and in bf16. Every number of processes
does the same steps; the first step is not timed. Beside the clock stands what the busiest process computed, which
other work on the machine does not disturb, and which leaves out waiting. Left out on purpose: several machines.
"""

import multiprocessing
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch

from posttrain import adamw, bundled, packing, parallel, train
from posttrain.loading import load_model
from posttrain.pipeline import Runtime
from posttrain.progress import Progress
from posttrain.stages.sft import token_loss

MICRO, BATCH, STEPS = 1024, 4096, 2


def documents(count: int) -> list[packing.Doc]:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 400, (count,), generator=g).tolist()
    rows = (torch.randint(5, 4000, (n,), generator=g).tolist() for n in lengths)
    return [packing.Doc([], [packing.Branch(ids, [True] * len(ids))]) for ids in rows]


def timed(precision: str, steps: int) -> tuple[float, float]:
    """Tokens of all processes together for each second, and for each second of the busiest one's processor time."""
    docs = documents(200)
    model = load_model(bundled.model(), Runtime(precision=precision, compile="off"), train=True)
    rows = train.Rows([packing.size(d) for d in docs], [float(packing.size(d) - 1) for d in docs], [""] * len(docs))

    def loss(indices, total):
        return token_loss(model, packing.build([docs[i] for i in indices], pad_to=MICRO), "nll", total)

    started, busy, tokens = 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as out:
        for count in (1, steps):
            _, batches = train.schedule(rows, micro_tokens=MICRO, batch_tokens=BATCH, epochs=1, steps=count, seed=0)
            parallel.gather(None)
            started, busy = time.perf_counter(), time.process_time()
            cursor = train.train(model, rows, loss, optim=adamw.Optim(1e-4), steps=count, batches=batches,
                                 out=Path(out), progress=Progress("silent"))  # fmt: skip
            tokens = cursor.tokens
    wall = time.perf_counter() - started
    return tokens / wall, tokens / max(parallel.gather(time.process_time() - busy))


def rank(number: int, world: int, port: int, said: "multiprocessing.Queue[tuple[str, tuple[float, float]]]") -> None:
    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {
            "WORLD_SIZE": str(world),
            "RANK": str(number),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    with parallel.started():
        for precision in ("fp32", "bf16"):
            speed = timed(precision, STEPS)
            if number == 0:
                said.put((precision, speed))


def main() -> None:
    context = multiprocessing.get_context("spawn")
    for world in map(int, sys.argv[1:] or ["1", "2"]):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        said = context.Queue()
        processes = [context.Process(target=rank, args=(r, world, port, said)) for r in range(world)]
        for p in processes:
            p.start()
        for _ in range(2):
            precision, speed = said.get(timeout=300)
            print(
                f"{world} processes, {precision}: {speed[0]:,.0f} tokens/s, {speed[1]:,.0f} by processor time",
                flush=True,
            )
        for p in processes:
            p.join()


if __name__ == "__main__":
    main()
