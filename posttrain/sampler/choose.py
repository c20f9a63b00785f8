"""From logits to tokens: the distribution that is sampled from, and one draw from it per row.

Shapes: B rows, V vocabulary. Natural logarithms, fp32; the cumulative sum is fp64.
Left out on purpose: penalties by how often a token occurred.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posttrain.errors import UserError
from posttrain.sampler.base import Sampling

FIRST_SORTED = 256  # top_p looks at this many of the likeliest tokens before it looks at more
BLOCK = 512  # tokens whose probabilities a GPU adds up on their own


def uniforms(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """Uniforms in [0, 1) for the positions of one answer, fp64 [count].

    Counter-based (Philox 4x64-10, Salmon et al. 2011): a stream per (seed, prompt, sample), an entry per position. A
    longer request has the same beginning.
    """
    key = np.array([seed, (prompt << 32) | sample], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def penalised(logits_BV: Tensor, held: Iterable[Sequence[int]], how: Sampling) -> Tensor:
    """Logits in which tokens that a row holds already (prompt and answer) are divided by the penalty where they are
    positive, multiplied by it where they are not: CTRL, arXiv:1909.05858, section 4.1, as in transformers and vLLM.

    held is not looked at without a penalty, so a generator costs the usual step nothing.
    """
    if not how.penalises:
        return logits_BV
    found_BV = logits_BV.float().clone()
    for row_V, ids in zip(found_BV, held, strict=True):
        at = torch.tensor(sorted(set(ids)), device=row_V.device)
        x = row_V[at]
        row_V[at] = torch.where(x > 0, x / how.repetition_penalty, x * how.repetition_penalty)
    return found_BV


def log_probs(logits_BV: Tensor, how: Sampling) -> Tensor:
    """Log-probabilities really sampled from, fp32 [B, V]: -inf outside the support. Greedy: 0 at the maximum."""
    if how.temperature == 0:
        point_BV = torch.full_like(logits_BV, -math.inf, dtype=torch.float32)
        return point_BV.scatter_(1, logits_BV.argmax(-1, keepdim=True), 0.0)
    return torch.log_softmax(_scores(logits_BV, how), -1)


def choose(logits_BV: Tensor, u_B: Tensor, how: Sampling) -> tuple[Tensor, Tensor]:
    """Token of each row by the inverse of its distribution function at u, and its log-probability: ([B], fp32 [B]).

    One uniform a row instead of one a token, as in the Gumbel trick: 0.1 against 4 ms at [32, 8192] on a CPU.
    Raises UserError when logits are not finite, which is what a diverged model shows first.
    """
    token_B, logp_B, top_B = pick(logits_BV, u_B, how)
    check(top_B)
    return token_B, logp_B


def check(top_B: Tensor) -> None:
    """top_B: the largest logit of each row."""
    if not bool(torch.isfinite(top_B).all()):
        raise UserError("the model's logits are not finite numbers", remedy="a lower learning rate, or precision: fp32")


def pick(logits_BV: Tensor, u_B: Tensor, how: Sampling, *, waits: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """`choose` without the check, and the largest logits [B], which are what it checks.

    waits False: nothing depends on a number that a GPU would have to be asked for; top_p then sorts everything.
    """
    top_B = logits_BV.amax(-1)
    if how.temperature == 0:
        return logits_BV.argmax(-1), torch.zeros_like(top_B, dtype=torch.float32), top_B
    score_BV = _scores(logits_BV, how, FIRST_SORTED if waits else logits_BV.shape[-1])
    score_BV = score_BV - score_BV.amax(-1, keepdim=True)
    invert = _invert if logits_BV.device.type == "cpu" else _invert_in_blocks
    token_B, total_B = invert(score_BV.exp(), u_B)
    token_B = token_B.clamp(max=logits_BV.shape[-1] - 1)  # logits that are no numbers point anywhere
    logp_B = score_BV.gather(1, token_B[:, None])[:, 0].double() - total_B.log()
    return token_B, logp_B.float(), top_B


def _invert(p_BV: Tensor, u_B: Tensor) -> tuple[Tensor, Tensor]:
    """The first token behind the share u of the total, and the total, fp64; p need not add up to one."""
    cdf_BV = p_BV.cumsum(-1, dtype=torch.float64)
    token_B = torch.searchsorted(cdf_BV, _target(u_B, cdf_BV[:, -1])[:, None], right=True)[:, 0]
    return token_B, cdf_BV[:, -1]


def _target(u_B: Tensor, total_B: Tensor) -> Tensor:
    """u x total, which can round up to total and would point behind the last token."""
    return torch.minimum(u_B.to(total_B) * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))


def _invert_in_blocks(p_BV: Tensor, u_B: Tensor) -> tuple[Tensor, Tensor]:
    """The same: first the block of tokens, then the token in it. On a GPU a cumulative sum over a whole row is slow,
    for one row is the work of one processor."""
    rows = torch.arange(len(p_BV), device=p_BV.device)
    p_BMN = F.pad(p_BV, (0, -p_BV.shape[-1] % BLOCK)).view(len(p_BV), -1, BLOCK)
    cdf_BM = p_BMN.sum(-1, dtype=torch.float64).cumsum(-1)
    target_B1 = _target(u_B, cdf_BM[:, -1])[:, None]
    block_B = torch.searchsorted(cdf_BM, target_B1, right=True)[:, 0].clamp(max=cdf_BM.shape[1] - 1)
    p_BN = p_BMN[rows, block_B]
    before_B1 = F.pad(cdf_BM, (1, 0)).gather(1, block_B[:, None])
    inner_B1 = torch.searchsorted(before_B1 + p_BN.cumsum(-1, dtype=torch.float64), target_B1, right=True)
    last_B1 = torch.where(p_BN > 0, torch.arange(BLOCK, device=p_BV.device), 0).amax(-1, keepdim=True)
    return block_B * BLOCK + torch.minimum(inner_B1, last_B1)[:, 0], cdf_BM[:, -1]


def _scores(logits_BV: Tensor, how: Sampling, sorted_first: int = FIRST_SORTED) -> Tensor:
    """logits / temperature in fp32, -inf outside the support."""
    score_BV = logits_BV.float()
    if how.temperature != 1.0:
        score_BV = score_BV / how.temperature
    if 0 < how.top_k < score_BV.shape[-1]:
        least_B1 = score_BV.topk(how.top_k, -1).values[:, -1:]
        score_BV = score_BV.masked_fill(score_BV < least_B1, -math.inf)
    if how.top_p < 1.0:
        score_BV = score_BV.masked_fill(score_BV < _nucleus(score_BV, how.top_p, sorted_first), -math.inf)
    if how.min_p > 0.0:
        least_B1 = score_BV.amax(-1, keepdim=True) + math.log(how.min_p)
        score_BV = score_BV.masked_fill(score_BV < least_B1, -math.inf)
    return score_BV


def _nucleus(score_BV: Tensor, top_p: float, count: int) -> Tensor:
    """Score of the last token of the smallest set of likeliest tokens whose mass reaches top_p, [B, 1].

    Holtzman et al. 2020. A full sort of the vocabulary costs more than a decode step of a small model, so the
    likeliest tokens are sorted first and more only where their mass falls short.
    """
    vocabulary = score_BV.shape[-1]
    norm_B1 = torch.logsumexp(score_BV, -1, keepdim=True)
    while True:
        likeliest_BM = score_BV.topk(min(count, vocabulary), -1).values
        mass_BM = (likeliest_BM - norm_B1).exp().cumsum(-1, dtype=torch.float64)
        if count >= vocabulary or bool((mass_BM[:, -1] >= top_p).all()):
            break
        count *= 8
    kept_B1 = (mass_BM < top_p).sum(-1, keepdim=True)  # those short of top_p, and the one that reaches it
    return likeliest_BM.gather(1, kept_B1.clamp(max=likeliest_BM.shape[-1] - 1))
