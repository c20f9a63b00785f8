"""What the page shows of a training stage: what was logged over its steps, what its detectors found, and reward and
gold over the distance.

The last is the over-optimisation curve of reinforcement learning, after arXiv:2210.10760. Left out on purpose:
reading the log (collect.py), drawing (plots.py), whether a reward is gamed (rl/health.py says).
"""

from collections import Counter

from posttrain.report import plots, words
from posttrain.report.collect import Training
from posttrain.report.page import Curves

JUDGES = 6  # as many as there are colours

# title, unit, the logged names with what their curve is called, whether zero is a landmark
CURVES: tuple[tuple[str, str, tuple[tuple[str, str], ...], bool], ...] = (
    ("Loss", "nats", (("loss", "training"), ("held_loss", "held out")), False),
    ("Reward margin", "nats", (("margin", "training"), ("held_margin", "held out")), True),
    ("Pairs ranked right", "share", (("accuracy", "training"), ("held_accuracy", "held out")), False),
    ("Rewards of both answers", "nats", (("chosen_reward", "chosen"), ("rejected_reward", "rejected")), True),
    (
        "Log-prob that chosen answers lost",
        "nats a token",
        (("chosen_drop", "training"), ("held_chosen_drop", "held out")),
        True,
    ),
    ("Drift of sampled answers from the reference", "nats", (("held_kl", "KL"),), True),
    ("Length of sampled answers", "tokens", (("held_length", "length"),), False),
    ("Judge's score of held-out prompts", "", (("held_score", "likeliest answers"),), False),
    ("Reward of the rollouts", "", (("reward", "sampled"), ("held_reward", "held out"), ("held_gold", "gold")), False),
    (
        "Spread of the rewards",
        "",
        (("reward_std", "all answers"), ("spread", "within a group"), ("doubt", "members of reward models")),
        True,
    ),
    ("Distance from the reference", "nats a token", (("kl_k1", "k1"), ("kl_k3", "k3")), True),
    ("Price of a nat", "nats of loss or reward", (("kl_coef", "of KL"), ("entropy_coef", "of entropy")), True),
    ("Entropy", "nats a token", (("entropy", "policy"),), False),
    ("Length of the answers", "tokens", (("length", "sampled"), ("held_length", "held out")), False),
    ("Answers", "share", (("stopped", "ended"), ("unique", "unique"), ("distinct", "new 3-grams")), False),
    ("Groups without spread, clipped tokens", "share", (("flat", "flat"), ("clipped", "clipped")), False),
    ("Largest and smallest ratio", "", (("ratio_max", "largest"), ("ratio_min", "smallest")), False),
    ("Explained variance of the critic", "share", (("explained", "critic"),), True),
    ("Sampler against trainer", "nats a token", (("mismatch", "mismatch"), ("drift", "drift of an update")), True),
    ("Learning rate", "", (("lr", "learning rate"),), False),
    ("Gradient norm before clipping", "", (("norm", "norm"),), False),
)


def curves(training: Training, series: int) -> Curves:
    """The plots of a training stage that has something to show; series: the policy's colour."""
    drawn = []
    for i, (title, unit, wanted, zero) in enumerate(CURVES):
        lines = [line for j, (key, label) in enumerate(wanted) if (line := _line(training, key, label, j)) is not None]
        if lines:
            salt = f"curve{training.node.record.fingerprint}x{i}"
            drawn.append((title, plots.curves(salt, f"{training.node.name}: {title}", lines, unit=unit, zero=zero)))
    drawn += each_judge(training) + over_optimisation(training)
    m = training.node.record.metrics
    told = [f"{m.get('steps', len(training.log)):.0f} steps", f"{words.count(m.get('tokens'))} tokens"]
    if "shared_saving" in m:
        told.append(f"{words.value(m['shared_saving'], True)} of the tokens saved by shared prompts")
    return Curves(training.node.name, series, " · ".join(told), drawn, alarms(training))


def alarms(training: Training) -> list[str]:
    """What the detectors of reinforcement learning found: each one's first words, and how often it fired."""
    fired = Counter(name for e in training.log for name in e.get("fired", ()))
    rollouts = sum("rollout" in e for e in training.log)
    first = [(e["step"], name, says) for e in training.log for name, says in e.get("alarms", {}).items()]
    return [
        f"{name.replace('_', ' ')}, first after step {step}, in {words.many(fired[name], 'rollout')} of {rollouts}: "
        + says
        for step, name, says in first
    ]


def each_judge(training: Training) -> list[tuple[str, str]]:
    """What each judge gave by itself, unweighted, where there are several."""
    names = sorted({k for e in training.log for k in e if k.startswith("reward.")})
    made = [_line(training, k, k.removeprefix("reward."), n) for n, k in enumerate(names[:JUDGES])]
    lines = [line for line in made if line is not None]
    if len(lines) < 2:
        return []
    salt = f"curve{training.node.record.fingerprint}judges"
    title = "What each judge gave, unweighted"
    return [(title, plots.curves(salt, f"{training.node.name}: {title}", lines))]


def _line(training: Training, key: str, label: str, number: int) -> plots.Line | None:
    points = [(e["step"], e[key]) for e in training.log if isinstance(e.get(key), int | float) and "step" in e]
    if len(points) < 2:
        return None
    x, y = zip(*points)
    return plots.Line(label, x, y, series=1 + number, dots=key.startswith("held_"), noisy=key != "lr")


def over_optimisation(training: Training) -> list[tuple[str, str]]:
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
