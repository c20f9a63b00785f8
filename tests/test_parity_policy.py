"""Policy losses and their gradients beside TRL's: its own loss method is called with a small stand-in for the trainer.

TRL computes on padded [B, T] matrices with a mask, here the same tokens stand end to end; both get the same log-probs.
Compared: grpo, dr_grpo, dapo (clip higher), the two-sided delta, gspo's sequence ratio, cispo, k3 in the loss with and
without TRL's ratio on it, and rloo's bandit loss. Left out on purpose: TRL's models and sampling.
"""

import types
from collections import defaultdict

import pytest
import torch

from posttrain.objectives.policy import Tokens, cispo, clip, gspo, kl, ratio, sequence_clip
from posttrain.objectives.reduce import reduce

pytestmark = pytest.mark.parity
B, T, LONGEST = 4, 6, 10
G = torch.Generator().manual_seed(0)
MASK = torch.ones(B, T)
MASK[0, 4:] = MASK[2, 3:] = 0
NEW = -torch.rand(B, T, generator=G) - 0.5
OLD = NEW + 0.4 * torch.randn(B, T, generator=G)
REF = NEW + 0.2 * torch.randn(B, T, generator=G)
ADV = torch.tensor([1.0, -0.5, 0.3, -1.2])
REAL = MASK.bool()


class OneProcess:
    device, num_processes, sync_gradients = torch.device("cpu"), 1, True

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction=None):
        return x


def theirs(loss_type="dapo", level="token", beta=0.0, high=0.2, delta=None, corrected=True):
    """(loss, gradient for the log-probs [B, T]) of TRL's GRPOTrainer._compute_loss."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    logp = NEW.clone().requires_grad_(True)
    args = types.SimpleNamespace(
        delta=delta, use_bias_correction_kl=corrected, steps_per_generation=1, entropy_target=0.2,
    )  # fmt: skip
    trainer = types.SimpleNamespace(
        accelerator=OneProcess(), aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level=level, beta=beta, args=args, loss_type=loss_type, epsilon_low=0.2, epsilon_high=high,
        use_vllm=False, vllm_importance_sampling_correction=False, model=types.SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1, max_completion_length=LONGEST, _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.zeros(B, T), None),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.ones(B, 2), "prompt_mask": torch.ones(B, 2), "completion_ids": torch.ones(B, T),
        "completion_mask": MASK, "advantages": ADV, "old_per_token_logps": OLD, "ref_per_token_logps": REF,
        "num_items_in_batch": MASK.sum(),
    }  # fmt: skip
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return loss.detach(), logp.grad


def ours(objective, how, total, beta=0.0, on_ratio=False):
    logp = NEW.clone().requires_grad_(True)
    sequence = torch.arange(B)[:, None].expand(B, T)[REAL]
    adv = ADV[:, None].expand(B, T)[REAL]
    t = Tokens(logp[REAL], OLD[REAL], adv, sequence, B)
    loss = objective(t)
    if beta:
        price = kl(t.logp_N, REF[REAL], "k3")
        loss = loss + beta * (price * ratio(t.logp_N, t.old_N) if on_ratio else price)
    scalar = reduce(loss, how, total, sequence, B)
    scalar.backward()
    return scalar.detach(), logp.grad


N = float(MASK.sum())


@pytest.mark.parametrize(
    ("trl", "own"),
    [
        ({"loss_type": "grpo"}, (clip, "sequence", B)),
        ({"loss_type": "dr_grpo"}, (clip, "token", B * LONGEST)),
        ({"loss_type": "dapo"}, (clip, "token", N)),
        ({"loss_type": "dapo", "high": 0.28}, (lambda t: clip(t, high=0.28), "token", N)),
        ({"loss_type": "dapo", "delta": 1.3}, (lambda t: clip(t, cap=1.3), "token", N)),
        ({"loss_type": "cispo", "high": 5.0}, (lambda t: cispo(t, high=4.0), "token", N)),
        ({"loss_type": "dapo", "beta": 0.04, "corrected": False}, (clip, "token", N, 0.04)),
        ({"loss_type": "dapo", "beta": 0.04}, (clip, "token", N, 0.04, True)),
        ({"loss_type": "grpo", "level": "sequence"}, (lambda t: gspo(t, low=0.2, high=0.2), "sequence", B)),
    ],
)
def test_loss_and_gradient(trl, own):
    (their_loss, their_grad), (loss, grad) = theirs(**trl), ours(*own)
    torch.testing.assert_close(loss, their_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-7)


def test_rloo():
    """TRL's RLOO takes the log-prob of whole answers; old ones differ from ours by known sums."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    logp = NEW.clone().requires_grad_(True)
    trainer = types.SimpleNamespace(
        accelerator=OneProcess(), _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.zeros(B, T), None),
        aux_loss_enabled=False, epsilon_low=0.2, epsilon_high=0.2, model=types.SimpleNamespace(training=True),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.ones(B, 2), "prompt_mask": torch.ones(B, 2), "completion_ids": torch.ones(B, T),
        "completion_mask": MASK, "advantages": ADV, "old_logps": (OLD * MASK).sum(1),
    }  # fmt: skip
    their_loss = RLOOTrainer._compute_loss(trainer, None, inputs)
    their_loss.backward()
    loss, grad = ours(sequence_clip, "sequence", B)
    torch.testing.assert_close(loss, their_loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad, logp.grad, rtol=1e-4, atol=1e-7)
