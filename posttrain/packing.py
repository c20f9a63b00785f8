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
from typing import NamedTuple

import numpy as np
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
        rows_S4 = self.segments_S4.numpy()
        rows_S4 = rows_S4[rows_S4[:, 1] > rows_S4[:, 0]]
        end = int(rows_S4[:, 1].max(initial=0))
        if end < tokens:
            rows_S4 = np.concatenate([rows_S4, [[end, tokens, end, end]]])
        q0_S, q1_S, p0_S, p1_S = rows_S4.T
        query_S, prefix_S = q1_S - q0_S, p1_S - p0_S
        key_S = query_S + prefix_S

        def sums(length_S: np.ndarray) -> Tensor:
            return sent(torch.from_numpy(np.concatenate([[0], np.cumsum(length_S)]).astype(np.int32)), device)

        key_J = None
        if prefix_S.any():
            runs = np.stack([p0_S, q0_S], 1).reshape(-1), np.stack([prefix_S, query_S], 1).reshape(-1)
            key_J = sent(torch.from_numpy(_counted(*runs)), device)
        longest = [-(-int(x.max(initial=0)) // 256) * 256 for x in (query_S, key_S)]
        return Gathered(key_J, sums(query_S), sums(key_S), *longest)


def _counted(start_R: np.ndarray, length_R: np.ndarray) -> np.ndarray:
    """Runs of consecutive numbers, one after the other: start, start + 1, ... for each of the lengths; int64."""
    before_R = np.cumsum(length_R) - length_R
    found: np.ndarray = np.arange(int(length_R.sum())) + np.repeat(start_R - before_R, length_R)
    return found.astype(np.int64)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """x on `device`. To a GPU it goes by way of pinned memory, so that the host does not wait for the GPU's queue."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


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
    wanted: list[bool] = []  # of every token: is it a target?
    segments: list[Segment] = []
    begins: list[int] = []  # of every segment: where its document would begin if it stood alone
    firsts: list[tuple[int, int]] = []  # first tokens of branches and what predicts them, -1 for nothing
    last: list[int] = []

    def lay(tokens: list[int], mask: list[bool]) -> None:
        if len(tokens) != len(mask):
            raise ValueError(f"{len(tokens)} tokens have a mask of {len(mask)}")
        ids.extend(tokens)
        wanted.extend(mask)

    for doc in docs:
        alone = not share or len(doc.branches) == 1 or not doc.prefix
        p0, unwanted = len(ids), [False] * len(doc.prefix)
        if not alone:
            lay(doc.prefix, unwanted)
            segments.append(Segment(p0, len(ids), p0, p0))
            begins.append(p0)
        p1 = len(ids)
        for branch in doc.branches:
            q0 = len(ids)
            if alone:
                lay(doc.prefix, unwanted)
            first = len(ids)
            if branch.ids:
                firsts.append((first, -1 if not doc.prefix else first - 1 if alone else p1 - 1))
            lay(branch.ids, branch.mask)
            segments.append(Segment(q0, len(ids), q0, q0) if alone else Segment(q0, len(ids), p0, p1))
            begins.append(q0 if alone else q0 - len(doc.prefix))
            last.append(len(ids) - 1)
    tokens = len(ids)
    padding = -tokens % max(32, pad_to // 8 // 32 * 32) if pad_to else 0
    ids_T = np.array(ids + [pad_id] * padding, dtype=np.int64)
    at_N, target_N = _targets(np.array(wanted, dtype=bool), firsts)
    return Pack(
        ids_T=torch.from_numpy(ids_T),
        position_T=torch.from_numpy(_positions(segments, begins, len(ids_T))),
        layout=Layout.of(segments),
        at_N=torch.from_numpy(at_N),
        target_N=torch.from_numpy(ids_T[target_N]),
        branch_N=torch.from_numpy(np.searchsorted(np.array(last, dtype=np.int64), target_N).astype(np.int64)),
        last_B=torch.tensor(last, dtype=torch.long),
        branches=len(last),
        tokens=tokens,
        unshared_tokens=sum(map(unshared, docs)),
    )


def _targets(wanted_T: np.ndarray, firsts: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Of every target, in order: the index in T that predicts it, and its own."""
    before_T = np.arange(-1, len(wanted_T) - 1)
    at_B, before_B = np.array(firsts, dtype=np.int64).reshape(-1, 2).T
    before_T[at_B] = before_B
    target_N = np.flatnonzero(wanted_T & (before_T >= 0))
    return before_T[target_N], target_N


def _positions(segments: Sequence[Segment], begins: Sequence[int], length: int) -> np.ndarray:
    """Position of every token in its document; 0 for the padding."""
    q_S2 = np.array([s[:2] for s in segments], dtype=np.int64).reshape(-1, 2)
    found = _counted(q_S2[:, 0] - np.array(begins, dtype=np.int64), q_S2[:, 1] - q_S2[:, 0])
    return np.pad(found, (0, length - len(found)))
