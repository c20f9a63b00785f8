"""What goes wrong in reinforcement learning, looked for in the log: one detector a disease, each a pure function.

A detector reads the first log entry of every rollout so far (and the held-out evaluations among them) and answers with
a sentence, or "" when all is well. It compares with the run's own beginning, never with a number from another model.
`Health` says what happens then: a line in the log, a higher price of KL, a lower learning rate, or the end of the run
and the way back to the best checkpoint. Left out on purpose: mending. No torch.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["off", "warn", "raise_kl", "lower_lr", "stop"]
History = Sequence[Mapping[str, Any]]
START = 3  # rollouts that say how the run began
RECENT = 5  # rollouts that say how it is now
RAISE = 1.5  # what raise_kl multiplies the price of KL with
LOWER = 0.5  # what lower_lr multiplies the learning rates with


def series(history: History, key: str) -> list[float]:
    return [float(e[key]) for e in history if isinstance(e.get(key), int | float)]


def ends(history: History, key: str) -> tuple[float, float] | None:
    """(median of the first START, median of the last RECENT) values; None while they overlap."""
    found = series(history, key)
    if len(found) < START + RECENT:
        return None
    return statistics.median(found[:START]), statistics.median(found[-RECENT:])


def flat_reward(history: History) -> str:
    """All answers of every group have had the same reward since the beginning: nothing can be learned."""
    flat, rewards = series(history, "flat"), series(history, "reward")
    if len(flat) < START or min(flat) < 1 or max(series(history, "reward_std")) > 1e-6:
        return ""
    stopped, unique = statistics.fmean(series(history, "stopped")), statistics.fmean(series(history, "unique"))
    if stopped < 0.05:
        why = "hardly an answer ends within max_new tokens, so none is finished: raise sampling.max_new"
    elif unique < 0.5:
        why = "the samples of a group are mostly the same text: raise sampling.temperature"
    elif rewards[-1] <= 0:
        why = "no answer is ever right: easier prompts, more SFT, or a reward that gives part of the points"
    else:
        why = "every answer is right already: harder prompts; or the judge gives everything the same score"
    return f"the reward has not varied in {len(flat)} rollouts, it is always {rewards[-1]:g}; {why}"


def reward_hacking(history: History, *, sure: float = 2.0) -> str:
    """The gold judge has fallen from its best by `sure` standard errors while the reward it should follow has risen."""
    held = [e for e in history if "held_gold" in e and "held_reward" in e]
    if len(held) < 2:
        return ""
    best = max(held[:-1], key=lambda e: e["held_gold"])
    now = held[-1]
    error = (best.get("held_gold_error", 0.0) ** 2 + now.get("held_gold_error", 0.0) ** 2) ** 0.5
    fell = best["held_gold"] - now["held_gold"]
    if fell <= max(sure * error, 1e-9) or now["held_reward"] <= best["held_reward"]:
        return ""
    return (
        f"the gold judge fell from {best['held_gold']:.3f} to {now['held_gold']:.3f} while the reward rose from "
        f"{best['held_reward']:.3f} to {now['held_reward']:.3f}: the reward is being gamed"
    )


def kl_frontier(history: History, *, times: float = 2.0, nats: float = 2.0, sure: float = 1.0) -> str:
    """The policy is `times` as far from the reference, by `nats` an answer and more, as at an evaluation whose gold
    score (without a gold judge: held-out reward) was higher by `sure` standard errors: it has left the frontier of
    reward over KL (arXiv:2210.10760, figure 1)."""
    key = "held_gold" if any("held_gold" in e for e in history) else "held_reward"
    held = [e for e in history if "held_kl" in e and key in e]
    now = held[-1] if held else {}
    near = [e for e in held[1:-1] if times * e["held_kl"] <= now["held_kl"] and now["held_kl"] - e["held_kl"] >= nats]
    best = max(near, key=lambda e: e[key], default=None)
    if best is None:
        return ""
    error = (best.get(f"{key}_error", 0.0) ** 2 + now.get(f"{key}_error", 0.0) ** 2) ** 0.5
    if best[key] - now[key] <= max(sure * error, 1e-9):
        return ""
    what = "the gold score" if key == "held_gold" else "the held-out reward"
    return (
        f"KL went from {best['held_kl']:.1f} to {now['held_kl']:.1f} nats an answer and {what} from {best[key]:.3f} to "
        f"{now[key]:.3f}: distance that buys less than nothing"
    )


def length_drift(history: History, *, times: float = 2.0) -> str:
    """Answers are `times` longer (or shorter) than at the beginning."""
    found = ends(history, "length")
    if found is None or found[0] / times < found[1] < found[0] * times:
        return ""
    return f"answers went from {found[0]:.0f} to {found[1]:.0f} tokens"


def repetition_collapse(history: History, *, share: float = 0.75) -> str:
    """The share of new 3-grams within answers fell below `share` of the beginning's: answers go round in circles."""
    found = ends(history, "distinct")
    if found is None or found[1] >= share * found[0]:
        return ""
    return f"new 3-grams within an answer fell from {found[0]:.0%} to {found[1]:.0%}"


def entropy_collapse(history: History, *, share: float = 0.1) -> str:
    """The policy's entropy fell below `share` of the beginning's while there is still something to learn."""
    found, spread = ends(history, "entropy"), ends(history, "spread")
    if found is None or found[1] >= share * found[0] or (spread and spread[1] > 0.5 * spread[0]):
        return ""
    reward = series(history, "reward")
    rise = statistics.fmean(reward[-RECENT:]) - statistics.fmean(reward[:START])
    if rise > max(2 * statistics.pstdev(reward[:START]), 0.02):
        return ""  # certain because it has learned
    return f"entropy fell from {found[0]:.3f} to {found[1]:.3f} nats a token and the reward has not risen"


def ratio_explosion(history: History, *, drift: float = 0.1, clipped: float = 0.4) -> str:
    """The last update moved the policy by more than `drift` nats a token, or `clipped` of its tokens hit the clip."""
    now = history[-1]
    if now.get("drift", 0.0) > drift:
        return f"the policy moved {now['drift']:.3f} nats a token within one rollout"
    if now.get("clipped", 0.0) > clipped:
        return f"{now['clipped']:.0%} of the tokens were clipped in the last update"
    return ""


def critic_failure(history: History, *, least: float = -0.5) -> str:
    """The critic explains less of the returns than a constant would: its credit is noise."""
    found = series(history, "explained")
    if len(found) < 2 * RECENT or statistics.median(found[-RECENT:]) >= least:
        return ""
    return f"the critic's explained variance is {statistics.median(found[-RECENT:]):.2f}"


def sampler_mismatch(history: History, *, nats: float = 0.05) -> str:
    """Sampler and trainer give the same tokens different log-probs: KL above `nats` a token."""
    mismatch = history[-1].get("mismatch", 0.0)
    return f"sampler and trainer disagree by {mismatch:.3f} nats a token" if mismatch > nats else ""


def disagreement(history: History, *, times: float = 2.0) -> str:
    """The members of a reward ensemble disagree `times` more than at the beginning: answers they never learned from."""
    found = ends(history, "doubt")
    if found is None or found[1] <= times * max(found[0], 1e-9):
        return ""
    return f"reward models disagree by {found[1]:.3f} instead of {found[0]:.3f}"


DETECTORS: tuple[Callable[[History], str], ...] = (
    flat_reward, reward_hacking, kl_frontier, length_drift, repetition_collapse, entropy_collapse, ratio_explosion,
    critic_failure, sampler_mismatch, disagreement,
)  # fmt: skip


class Health(BaseModel):
    """What each detector does when it fires: off, warn, raise_kl (the price of KL x 1.5), lower_lr (learning rates x
    0.5), stop (and go back to the best checkpoint by the gold judge, or by the reward on held-out prompts where there
    is no gold judge). raise_kl and lower_lr act once in five rollouts, so that the last time can show its effect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat_reward: Action = "warn"
    reward_hacking: Action = "warn"
    kl_frontier: Action = "warn"
    length_drift: Action = "warn"
    repetition_collapse: Action = "warn"
    entropy_collapse: Action = "warn"
    ratio_explosion: Action = "warn"
    critic_failure: Action = "warn"
    sampler_mismatch: Action = "warn"
    disagreement: Action = "warn"
    patience: int = Field(default=1, ge=1)  # rollouts in a row that a detector must fire before anything happens

    def actions(self) -> set[str]:
        return {str(getattr(self, d.__name__)) for d in DETECTORS}

    def examine(self, history: History) -> list[tuple[str, Action, str]]:
        """(detector, action, sentence) of everything that fires now and has done so for `patience` rollouts."""
        found: list[tuple[str, Action, str]] = []
        ends = [n for n, e in enumerate(history, 1) if not any(k.startswith("held_") for k in e)]  # evaluations between
        earlier = [history[:n] for n in reversed(ends[-self.patience : -1])]
        for detector in DETECTORS:
            action: Action = getattr(self, detector.__name__)
            if action == "off" or not history or not (sentence := detector(history)):
                continue
            if len(earlier) == self.patience - 1 and all(map(detector, earlier)):
                found.append((detector.__name__, action, sentence))
        return found
