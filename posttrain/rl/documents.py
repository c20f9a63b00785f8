"""A rollout's answers as documents for training, and tensors by answer, by document, or padded.

A document is a prompt with some of its answers, the prompt standing once. What an environment said between two answers
is part of a branch and no target, so a column has a number for each token that the policy drew and for no other.
Shapes: S answers, T targets of the longest. Left out on purpose: what is done with them (learner.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from posttrain import packing
from posttrain.rl.rollout import Group, spoken
from posttrain.rows import Sample


def lengths(doc: packing.Doc) -> list[int]:
    """Targets of each answer."""
    return [sum(b.mask) for b in doc.branches]


def units(groups: Sequence[Group], budget: int) -> tuple[list[packing.Doc], list[list[tuple[int, int]]]]:
    """Documents of a prompt and as many of its answers as fit into `budget` tokens, and whose: (group, sample)."""
    docs: list[packing.Doc] = []
    owner: list[list[tuple[int, int]]] = []
    for g, group in enumerate(groups):
        room = 0
        for j, sample in enumerate(group.samples):
            if len(sample.ids) > room or not owner or owner[-1][0][0] != g:
                docs.append(packing.Doc(list(group.ask.ids), []))
                owner.append([])
                room = budget - len(group.ask.ids)
            docs[-1].branches.append(packing.Branch(list(sample.ids), spoken(sample)))
            owner[-1].append((g, j))
            room -= len(sample.ids)
    return docs, owner


def drawn(sample: Sample) -> Tensor:
    """Log-probs of what the policy drew, as the sampler gave them."""
    return torch.tensor([x for x, mine in zip(sample.logps, spoken(sample)) if mine])


def per_doc(answers: Sequence[Tensor], docs: Sequence[packing.Doc]) -> list[Tensor]:
    """One tensor an answer -> one tensor a document."""
    found, at = [], 0
    for doc in docs:
        found.append(torch.cat(list(answers[at : at + len(doc.branches)])))
        at += len(doc.branches)
    return found


def by_answer(column: Sequence[Tensor], docs: Sequence[packing.Doc]) -> list[Tensor]:
    """The reverse of per_doc."""
    return [part for x_N, doc in zip(column, docs) for part in x_N.split(lengths(doc))]


def padded(rows: Sequence[Tensor]) -> Tensor:
    """[S, T], 0 behind each row's end."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def trimmed(x_ST: Tensor, mask_ST: Tensor) -> list[Tensor]:
    """The reverse of padded."""
    return [row[mask] for row, mask in zip(x_ST, mask_ST)]
