"""The over-optimisation curve of reinforcement learning: reward and gold over the distance from where it began.

After arXiv:2210.10760. Left out on purpose: curves over time (view.py); whether a reward is gamed (rl/health.py says).
"""

from posttrain.report import plots
from posttrain.report.collect import Training


def curve(training: Training) -> list[tuple[str, str]]:
    """Reward and gold on held-out prompts over the distance from the reference: where they part, it is gamed."""
    held = [e for e in training.log if "held_kl" in e and "held_reward" in e]
    if len(held) < 2:
        return []
    x = [e["held_kl"] for e in held]
    wanted = (("held_reward", "reward", 1), ("held_gold", "gold", 3))
    lines = [plots.Line(label, x, [e[k] for e in held], n, dots=True) for k, label, n in wanted if k in held[0]]
    title, over = "Over-optimisation: reward and gold over KL", "KL to the reference, nats an answer"
    salt = f"curve{training.node.record.fingerprint}kl"
    return [(title, plots.curves(salt, f"{training.node.name}: {title}", lines, over=over))]
