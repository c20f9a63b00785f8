"""What preference training does to text that the policy writes itself: how far it drifts, how long answers get.

Held-out pairs cannot show this: a policy may rank them rightly and write something else altogether. Answers to a few
held-out prompts are drawn at each evaluation, with the same random numbers each time, and scored by the reference.
Left out on purpose: judging them (stages/evaluate.py). Importing this file does not import torch.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posttrain import parallel
from posttrain.stages.training import evaluation_packs

if TYPE_CHECKING:
    from posttrain import packing
    from posttrain.render import Chat
    from posttrain.stages.reference import Reference

LONGEST = 96  # tokens of a drawn answer


def prompts_of(docs: "Sequence[packing.Doc]", count: int) -> list[list[int]]:
    """The first `count` different prompts."""
    return [list(ids) for ids in list(dict.fromkeys(tuple(d.prefix) for d in docs))[:count]]


def drift(reference: "Reference", chat: "Chat", prompts: Sequence[list[int]]) -> dict[str, float]:
    """kl: KL(pi || ref) of an answer in nats (k3, summed over its tokens); length: tokens; stopped: share that ended.

    Sampled at temperature 1 from the policy in training, so the estimate is unbiased; with 16 answers it is rough.
    """
    import torch

    from posttrain import shards
    from posttrain.objectives.policy import kl
    from posttrain.objectives.reduce import sequence_sum
    from posttrain.packing import Branch, Doc, size
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    if not prompts:
        return {}
    how = Sampling(max_new=LONGEST, temperature=1.0)
    whole = shards.whole(reference.model)
    samples = parallel.agreed([s for s, *_ in asyncio.run(Local(whole, chat).sample(prompts, 1, how))])
    docs = [Doc(p, [Branch(list(s.ids), [True] * len(s.ids))]) for p, s in zip(prompts, samples)]
    budget = max(reference.micro_tokens, *(size(d) for d in docs))
    packs = [pack for _, pack in evaluation_packs(docs, budget, reference.pad_id)]
    with torch.no_grad():
        own = [reference.model.token_logps(pack) for pack in packs]
        with reference.awake(started=True) as model:
            theirs = [model.token_logps(pack) for pack in packs]
    total = sum(
        float(sequence_sum(kl(a, b, "k3"), pack.branch_N, pack.branches).double().sum())
        for pack, a, b in zip(packs, own, theirs)
    )
    n = len(samples)
    return {
        "kl": total / n,
        "length": sum(len(s.ids) for s in samples) / n,
        "stopped": sum(s.ended == "stop" for s in samples) / n,
    }
