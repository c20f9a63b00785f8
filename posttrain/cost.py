"""What training costs on many GPUs: memory of each, time of a step, bytes on the wire; a sum, not a simulation.

`python -m posttrain.cost` prints the tables of docs/scale.md. The share of a GPU's peak that is reached is the one
free number; it is read off one published run of each kind of GPU, and the other published runs are predicted
(PUBLISHED, `deviations`). Activations are counted tensor by tensor as transformers' Llama keeps them (a test counts).
Left out on purpose: sampling, judges, data loading, tensor and pipeline parallelism, which this package has not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """A decoder like Llama's. tied: the output layer is the embedding."""

    name: str
    layers: int
    hidden: int
    inner: int  # of the feed-forward part
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def kv(self) -> int:
        return self.hidden * self.kv_heads // self.heads

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return 2 * self.hidden * (self.hidden + self.kv) + 3 * self.hidden * self.inner + 2 * self.hidden

    @property
    def outer(self) -> int:
        """Parameters outside the layers."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.outer

    def flops(self, context: int) -> float:
        """Forward and backward for one token: 6 for each parameter that multiplies, and causal attention, whose mean
        query sees half the context."""
        products = self.layers * self.layer + self.vocabulary * self.hidden
        return 6.0 * products + 6.0 * context * self.hidden * self.layers


LLAMA_8B = Shape("8B", 32, 4096, 14336, 32, 8, 128256)
LLAMA_70B = Shape("70B", 80, 8192, 28672, 64, 8, 128256)


@dataclass(frozen=True)
class Gpu:
    """peak: dense bf16 FLOP/s. share: of it that is reached, recomputed products counted. near, far: bytes a second one
    way between GPUs of a machine, and to others."""

    name: str
    memory: float
    peak: float
    share: float
    near: float
    far: float
    together: int = 8  # in one machine


WIRE = 0.7  # of a link's nominal speed, reached by large collectives
H100 = Gpu("H100 80 GB", 80e9, 989e12, 0.35, 450e9, 50e9)
A100 = Gpu("A100 80 GB", 80e9, 312e12, 0.559, 300e9, 25e9)


@dataclass(frozen=True)
class Plan:
    """How a step is cut. states: bytes that lie in shards for each parameter. recompute: share of the forward pass that
    the backward repeats. adapters: trainable parameters of LoRA; 0 trains everything."""

    gpus: int
    micro_tokens: int
    context: int = 1024  # longest row, as attention sees it
    batch_tokens: int = 0  # of an optimiser step; 0: one micro-batch for every GPU
    states: float = 20.0  # fp32 weight, its gradient while it comes and while it adds up, AdamW's two moments
    recompute: float = 0.0
    adapters: int = 0

    @property
    def micro_batches(self) -> int:
        """Of one GPU in a step."""
        return max(1, -(-self.batch_tokens // (self.micro_tokens * self.gpus)))


class Memory(NamedTuple):
    """Bytes on one GPU."""

    states: float
    gathered: float  # layers and the outermost group, whole, with their gradients on the way
    activations: float
    head: float

    @property
    def total(self) -> float:
        return sum(self)


def memory(s: Shape, p: Plan) -> Memory:
    """Of full training, or of LoRA with the frozen weights in bf16."""
    trained = p.adapters == 0
    states = s.parameters * p.states if trained else 2.0 * s.parameters + p.states * p.adapters
    one = 2.0 + (2.0 + 4.0 if trained else 0.0)  # gathered bf16; its gradient, and that in fp32 for the exchange
    gathered = s.outer * one + s.layer * (2.0 + one) if p.gpus > 1 else (2.0 * s.parameters if trained else 0.0)
    held = 1.0 - p.recompute
    active = p.micro_tokens * s.layers * (held * activation(s) + (2.0 * s.hidden if p.recompute else 0.0))
    head = s.vocabulary * s.hidden * (6.0 if trained else 0.0) + 4.0 * p.micro_tokens * s.hidden
    return Memory(states / p.gpus, gathered, active, head)


def activation(s: Shape) -> float:
    """Bytes that one token leaves in one layer for the backward, bf16: two norms in fp32 with their bf16 results,
    queries, keys, values, attention's output, and four tensors of the feed-forward part."""
    norms = 2 * (4 + 2 + 2) * s.hidden
    attention = 2 * (2 * s.hidden + 2 * s.kv)
    return float(norms + attention + 4 * 2 * s.inner)


class Time(NamedTuple):
    """Seconds of an optimiser step. wire: of the exchanges alone; compute hides them as far as it goes."""

    compute: float
    wire: float
    tokens_per_second: float  # of one GPU

    @property
    def step(self) -> float:
        return max(self.compute, self.wire)


def wire_bytes(s: Shape, p: Plan) -> float:
    """What each GPU receives in a step: for every micro-batch weights in bf16 twice, gradients in fp32."""
    if p.gpus == 1:
        return 0.0
    each = (4.0 + 4.0) * s.parameters if p.adapters == 0 else 4.0 * s.parameters + 4.0 * p.adapters
    return each * p.micro_batches * (p.gpus - 1) / p.gpus


def time(s: Shape, p: Plan, g: Gpu) -> Time:
    """Compute and exchange run side by side; the slower one sets the pace."""
    tokens = p.micro_tokens * p.micro_batches
    work = s.flops(p.context) * (1.0 + p.recompute / 3) * (1.0 if p.adapters == 0 else 2 / 3)
    compute = tokens * work / (g.peak * g.share)
    machines = -(-p.gpus // g.together)
    inside, total = min(p.gpus, g.together), wire_bytes(s, p)
    far = total * (machines - 1) / machines / inside / (g.far * WIRE)  # every GPU's own link carries its part
    wire = max(total / (g.near * WIRE), far)
    return Time(compute, wire, tokens / max(compute, wire))


class Published(NamedTuple):
    """A run that others measured: tokens a second of a GPU, GiB where they say so. fits: `share` was read off it."""

    source: str
    what: str
    shape: Shape
    plan: Plan
    gpu: Gpu
    tokens_per_second: float
    gib: float | None
    fits: bool = False


TITAN = "torchtitan, benchmarks/llama3_h100_202412_torchtitan.md"
TITAN_A100 = "torchtitan, docs/performance.md of 2024"
PUBLISHED = (
    Published(TITAN, "8B, 8 H100, half recomputed", LLAMA_8B, Plan(8, 16384, 8192, states=16, recompute=0.5), H100,
              5762, 82.4, fits=True),
    Published(TITAN, "8B, 128 H100, half recomputed", LLAMA_8B, Plan(128, 16384, 8192, states=16, recompute=0.5), H100,
              5605, 67.0),
    Published(TITAN_A100, "8B, 64 A100, half recomputed", LLAMA_8B, Plan(64, 8192, 8192, states=16, recompute=0.5),
              A100, 2904, None, fits=True),
    Published(TITAN_A100, "70B, 64 A100, all recomputed", LLAMA_70B, Plan(64, 8192, 8192, states=16, recompute=1.0),
              A100, 331, None),
)  # fmt: skip


def deviations() -> Iterator[tuple[Published, float, float | None]]:
    """(run, predicted / published tokens a second - 1, the same of memory)."""
    for run in PUBLISHED:
        fast = time(run.shape, run.plan, run.gpu).tokens_per_second / run.tokens_per_second - 1
        yield run, fast, None if run.gib is None else memory(run.shape, run.plan).total / GIB / run.gib - 1


def adapters(s: Shape, rank: int) -> int:
    """Parameters of LoRA on every linear layer."""
    pairs = [(s.hidden, s.hidden)] * 2 + [(s.hidden, s.kv)] * 2 + [(s.hidden, s.inner)] * 3
    return s.layers * rank * sum(a + b for a, b in pairs)


def tables() -> str:
    """Markdown: the published runs beside the predictions, then 8B and 70B on 8 to 64 GPUs."""
    lines = ["| run | tokens/s/GPU published | predicted | GiB published | predicted |", "|---|---|---|---|---|"]
    for run, fast, big in deviations():
        told = "-" if run.gib is None else f"{run.gib:.1f}"
        ours = "-" if big is None else f"{memory(run.shape, run.plan).total / GIB:.1f} ({big:+.0%})"
        note = " (share read off here)" if run.fits else ""
        speed = (1 + fast) * run.tokens_per_second
        lines.append(
            f"| {run.what}{note} | {run.tokens_per_second:,.0f} | {speed:,.0f} ({fast:+.0%}) | {told} | {ours} |"
        )
    lines += ["", "| model | GPUs | micro_tokens | states | gathered | activations | GiB in all | compute s | wire s | "
              "tokens/s/GPU | |", "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += list(_rows(LLAMA_8B, H100, (4096,), 0)) + list(_rows(LLAMA_70B, H100, (512, 2048), 0))
    lines += list(_rows(LLAMA_70B, H100, (1024,), 16))
    return "\n".join(lines)


def _rows(s: Shape, g: Gpu, micro: Sequence[int], rank: int) -> Iterator[str]:
    for tokens in micro:
        for gpus in (8, 16, 32, 64):
            p = Plan(gpus, tokens, min(1024, tokens), adapters=adapters(s, rank) if rank else 0)
            m, t = memory(s, p), time(s, p, g)
            gib = [f"{x / GIB:.1f}" for x in (m.states, m.gathered + m.head, m.activations, m.total)]
            name = f"{s.name} LoRA {rank}" if rank else s.name
            fits = "" if m.total < 0.92 * g.memory else "does not fit"
            bound = "wire-bound" if t.wire > t.compute else ""
            lines = [name, f"{gpus}", f"{tokens:,}", *gib, f"{t.compute:.2f}", f"{t.wire:.2f}",
                     f"{t.tokens_per_second:,.0f}", " ".join(filter(None, (fits, bound)))]  # fmt: skip
            yield "| " + " | ".join(lines) + " |"


if __name__ == "__main__":
    print(tables())
