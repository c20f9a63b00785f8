"""Documents -> one sequence of tokens per micro-batch, no padding between them, shared prompts computed once.

A document is a prefix and its branches: a conversation has no prefix and one branch, a preference pair has the prompt
as prefix and two branches, a group of samples has as many branches as samples. In a pack the prefix stands once and
each branch is a segment of its own that sees the prefix and itself. `Layout` is all that attention needs to know.

Shapes: T tokens of the pack, N targets (tokens that carry loss), B branches, S segments.
Left out on purpose: text (render.py), rows longer than the budget (the caller drops or truncates, with a ledger).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

WINDOW = 16  # micro-batches' worth of documents sorted together: long and short ones still mix over an epoch


class Branch(NamedTuple):
    """mask[i]: token i is a target, predicted from the token before it (the last prefix token for i = 0)."""

    ids: list[int]
    mask: list[bool]


class Doc(NamedTuple):
    prefix: list[int]
    branches: list[Branch]


class Segment(NamedTuple):
    """Queries [q0, q1) see keys [p0, p1) whole, then their own tokens up to themselves. p0 == p1: no prefix."""

    q0: int
    q1: int
    p0: int
    p1: int


class Gathered(NamedTuple):
    """The same segments for kernels of variable-length attention: queries in order, each with its own run of keys."""

    key_J: Tensor | None  # index in T of every key; None when queries and keys are the same tokens
    cu_query: Tensor  # int32 [S + 1], where each segment's queries begin
    cu_key: Tensor  # int32 [S + 1], where its keys begin in key_J
    longest_query: int
    longest_key: int


class Layout(NamedTuple):
    """Who sees whom. Tokens in no segment are padding: their attention output means nothing and nobody sees them."""

    segments_S4: Tensor  # int64, on the CPU; rows are Segments
    gathered: Gathered | None = None  # on an accelerator

    @staticmethod
    def of(segments: Sequence[Segment]) -> "Layout":
        """Empty segments are dropped. Two empty ones at the end keep S > 1: torch.compile treats 0 and 1 apart."""
        rows = [*(s for s in segments if s.q1 > s.q0), Segment(0, 0, 0, 0), Segment(0, 0, 0, 0)]
        return Layout(torch.tensor(rows, dtype=torch.long))

    def segments(self) -> list[Segment]:
        return [s for row in self.segments_S4.tolist() if (s := Segment(*row)).q1 > s.q0]

    def on(self, device: torch.device, tokens: int) -> "Layout":
        """The layout for tensors on `device`: an accelerator's kernels want `gathered`."""
        return self if device.type == "cpu" else self._replace(gathered=self.gather(device, tokens))

    def gather(self, device: torch.device, tokens: int) -> Gathered:
        """Padding up to `tokens` becomes a segment of its own. The longest lengths are rounded up to multiples of 256,
        since torch.compile makes code anew for numbers that change."""
        segments = self.segments()
        end = max((s.q1 for s in segments), default=0)
        if end < tokens:
            segments.append(Segment(end, tokens, end, end))
        keys = [torch.cat([torch.arange(s.p0, s.p1), torch.arange(s.q0, s.q1)]) for s in segments]
        queries = [s.q1 - s.q0 for s in segments]

        def sums(lengths: Sequence[int]) -> Tensor:
            return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device)

        shared = any(s.p1 > s.p0 for s in segments)
        longest = [-(-max(lengths) // 256) * 256 for lengths in (queries, [len(k) for k in keys])]
        return Gathered(
            torch.cat(keys).to(device) if shared else None, sums(queries), sums([len(k) for k in keys]), *longest
        )


@dataclass(frozen=True)
class Pack:
    """One micro-batch. Branches are numbered document after document; targets come branch after branch, in order."""

    ids_T: Tensor  # int64
    position_T: Tensor  # int64, restarts at 0 in each document; a branch goes on from its prefix
    layout: Layout
    at_N: Tensor  # int64, index in T of the hidden state that predicts target n
    target_N: Tensor  # int64, token ids
    branch_N: Tensor  # int64, 0..branches-1
    last_B: Tensor  # int64, index in T of each branch's last token: where an answer is scored
    branches: int
    tokens: int  # real tokens, a shared prefix counted once
    unshared_tokens: int  # the same with every branch carrying its own prefix


def size(doc: Doc) -> int:
    """Tokens that the document takes up in a pack, its prefix counted once."""
    return len(doc.prefix) + sum(len(b.ids) for b in doc.branches)


def unshared(doc: Doc) -> int:
    """The same with every branch carrying its own prefix."""
    return len(doc.prefix) * len(doc.branches) + sum(len(b.ids) for b in doc.branches)


def saving(docs: Sequence[Doc]) -> dict[str, float]:
    """For a record: the share of these documents' tokens that is not computed, since prompts are shared."""
    return {"shared_saving": 1 - sum(map(size, docs)) / max(1, sum(map(unshared, docs)))}


def plan(sizes: Sequence[int], budget: int, *, seed: int | None) -> list[list[int]]:
    """Which documents share a micro-batch: indices into `sizes`, each exactly once, at most `budget` tokens each.

    Documents are shuffled (seed None: kept in order) and cut into windows of about WINDOW micro-batches; inside a
    window best-fit decreasing (Johnson 1973) fills the bins, the emptiest bin moves on to the next window, and the
    bins are shuffled again so that no order by length is left. Deterministic in (sizes, budget, seed).
    ValueError when a document is larger than the budget: the caller decides what to do with those.
    """
    too_long = [i for i, n in enumerate(sizes) if n > budget]
    if too_long:
        raise ValueError(
            f"{len(too_long)} documents are larger than the budget of {budget}, the first is {too_long[0]}"
        )
    order = list(range(len(sizes)))
    rng = random.Random(seed) if seed is not None else None
    if rng:
        rng.shuffle(order)
    plans: list[list[int]] = []
    at, carried = 0, []
    while at < len(order):
        window, total = carried, sum(sizes[i] for i in carried)
        while at < len(order) and total < WINDOW * budget:
            window, total, at = [*window, order[at]], total + sizes[order[at]], at + 1
        bins = _best_fit(window, sizes, budget)
        carried = []
        if at < len(order) and len(bins) > 1:
            carried = bins.pop(min(range(len(bins)), key=lambda b: sum(sizes[i] for i in bins[b])))
        if rng:
            rng.shuffle(bins)
        plans += bins
    return plans


def _best_fit(items: Sequence[int], sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Largest first, each into the fullest bin that still takes it."""
    bins: list[list[int]] = []
    room: list[int] = []
    for i in sorted(items, key=lambda i: -sizes[i]):
        fitting = [b for b in range(len(bins)) if room[b] >= sizes[i]]
        if fitting:
            best = min(fitting, key=lambda b: room[b])
            bins[best].append(i)
            room[best] -= sizes[i]
        else:
            bins.append([i])
            room.append(budget - sizes[i])
    return bins


def build(docs: Sequence[Doc], *, pad_to: int = 0, pad_id: int = 0, share: bool = True) -> Pack:
    """Lay documents end to end.

    pad_to: the usual length of a pack, 0 for no padding. Packs are padded to the next eighth of it, in multiples of
    32, so that compiled kernels and oneDNN meet eight shapes at most.
    share False gives every branch its own copy of the prefix: the slow equal of the shared pack.
    The first token of a document without prefix has nothing before it and is never a target, whatever its mask says.
    """
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    targets: list[tuple[int, int, int]] = []  # at, token id, branch
    last: list[int] = []
    for doc in docs:
        alone = not share or len(doc.branches) == 1 or not doc.prefix
        p0 = len(ids)
        if not alone:
            segments.append(Segment(p0, p0 + len(doc.prefix), p0, p0))
            ids += doc.prefix
            positions += range(len(doc.prefix))
        p1 = len(ids)
        for branch in doc.branches:
            start = len(ids) if alone else len(ids) - len(doc.prefix)  # where the document would begin if not shared
            q0 = len(ids)
            ids += (doc.prefix + branch.ids) if alone else branch.ids
            positions += range(q0 - start, len(ids) - start)
            segments.append(Segment(q0, len(ids), p0, p1) if not alone else Segment(q0, len(ids), q0, q0))
            first = len(ids) - len(branch.ids)
            targets += _targets(branch, first, p1 - 1 if not alone else first - 1, bool(doc.prefix), len(last))
            last.append(len(ids) - 1)
    tokens = len(ids)
    padding = -tokens % max(32, pad_to // 8 // 32 * 32) if pad_to else 0
    at, target, number = zip(*targets, strict=True) if targets else ((), (), ())
    return Pack(
        ids_T=torch.tensor(ids + [pad_id] * padding, dtype=torch.long),
        position_T=torch.tensor(positions + [0] * padding, dtype=torch.long),
        layout=Layout.of(segments),
        at_N=torch.tensor(at, dtype=torch.long),
        target_N=torch.tensor(target, dtype=torch.long),
        branch_N=torch.tensor(number, dtype=torch.long),
        last_B=torch.tensor(last, dtype=torch.long),
        branches=len(last),
        tokens=tokens,
        unshared_tokens=sum(map(unshared, docs)),
    )


def _targets(branch: Branch, first: int, before: int, prefixed: bool, number: int) -> list[tuple[int, int, int]]:
    """(index that predicts it, token id, branch number) of a branch's targets; its tokens stand from `first` on."""
    return [
        (first + i - 1 if i else before, token, number)
        for i, (token, wanted) in enumerate(zip(branch.ids, branch.mask, strict=True))
        if wanted and (i or prefixed)
    ]
