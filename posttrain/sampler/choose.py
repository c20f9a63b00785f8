"""From logits to tokens: the distribution that is sampled from, and one draw from it per row.

Shapes: B rows, V vocabulary. Natural logarithms, fp32; the cumulative sum is fp64.
Left out on purpose: penalties for repetition, which make a token's probability depend on more than its logits.
"""

import math

import numpy as np
import torch
from torch import Tensor

from posttrain.errors import UserError
from posttrain.sampler.base import Sampling

FIRST_SORTED = 256  # top_p looks at this many of the likeliest tokens before it looks at more


def uniforms(seed: int, prompt: int, sample: int, count: int) -> np.ndarray:
    """Uniforms in [0, 1) for the positions of one answer, fp64 [count].

    Counter-based (Philox 4x64-10, Salmon et al. 2011): a stream per (seed, prompt, sample), an entry per position. A
    longer request has the same beginning.
    """
    key = np.array([seed, (prompt << 32) | sample], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


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
    top_B = logits_BV.amax(-1)
    if not bool(torch.isfinite(top_B).all()):
        raise UserError("the model's logits are not finite numbers", remedy="a lower learning rate, or precision: fp32")
    if how.temperature == 0:
        return logits_BV.argmax(-1), torch.zeros_like(top_B, dtype=torch.float32)
    score_BV = _scores(logits_BV, how)
    score_BV = score_BV - score_BV.amax(-1, keepdim=True)
    cdf_BV = score_BV.exp().cumsum(-1, dtype=torch.float64)
    total_B = cdf_BV[:, -1]
    # u x total can round up to total, which would point behind the last token
    target_B = torch.minimum(u_B.to(total_B) * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
    token_B = torch.searchsorted(cdf_BV, target_B[:, None], right=True)[:, 0]
    logp_B = score_BV.gather(1, token_B[:, None])[:, 0].double() - total_B.log()
    return token_B, logp_B.float()


def _scores(logits_BV: Tensor, how: Sampling) -> Tensor:
    """logits / temperature in fp32, -inf outside the support."""
    score_BV = logits_BV.float()
    if how.temperature != 1.0:
        score_BV = score_BV / how.temperature
    if 0 < how.top_k < score_BV.shape[-1]:
        least_B1 = score_BV.topk(how.top_k, -1).values[:, -1:]
        score_BV = score_BV.masked_fill(score_BV < least_B1, -math.inf)
    if how.top_p < 1.0:
        score_BV = score_BV.masked_fill(score_BV < _nucleus(score_BV, how.top_p), -math.inf)
    if how.min_p > 0.0:
        least_B1 = score_BV.amax(-1, keepdim=True) + math.log(how.min_p)
        score_BV = score_BV.masked_fill(score_BV < least_B1, -math.inf)
    return score_BV


def _nucleus(score_BV: Tensor, top_p: float) -> Tensor:
    """Score of the last token of the smallest set of likeliest tokens whose mass reaches top_p, [B, 1].

    Holtzman et al. 2020. A full sort of the vocabulary costs more than a decode step of a small model, so the
    likeliest tokens are sorted first and more only where their mass falls short.
    """
    vocabulary, count = score_BV.shape[-1], FIRST_SORTED
    norm_B1 = torch.logsumexp(score_BV, -1, keepdim=True)
    while True:
        likeliest_BM = score_BV.topk(min(count, vocabulary), -1).values
        mass_BM = (likeliest_BM - norm_B1).exp().cumsum(-1, dtype=torch.float64)
        if count >= vocabulary or bool((mass_BM[:, -1] >= top_p).all()):
            break
        count *= 8
    kept_B1 = (mass_BM < top_p).sum(-1, keepdim=True)  # those short of top_p, and the one that reaches it
    return likeliest_BM.gather(1, kept_B1.clamp(max=likeliest_BM.shape[-1] - 1))
