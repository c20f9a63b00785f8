"""The named algorithms of reinforcement learning as rows of one table: credit x loss x aggregation x KL.

`algorithm: {type: dapo}` is a whole algorithm, `{type: dapo, loss: {high: 0.3}}` the same with one number changed: what
is not written keeps the value of the row. Nothing here computes; the functions stand in objectives/advantage.py and
objectives/policy.py. Left out on purpose: sampling and rewards, which are the same for all of them (stages/rl.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posttrain.objectives import advantage, policy
from posttrain.spec import one_of, one_of_types

Knobs = Mapping[str, Any]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kl(Part):
    """How staying near the reference is paid for. where: in the reward of each token, in the loss, or not at all.

    coef: nats of reward (or loss) for a nat of KL. target: KL of a whole answer, nats, that coef is steered to; 0: coef
    stays as it is. watch: measure the KL also where nothing is paid; costs one forward pass of the reference.
    """

    where: Literal["reward", "loss", "none"] = "none"
    estimator: policy.Estimator = "k3"
    coef: float = Field(default=0.05, ge=0)
    target: float = Field(default=0.0, ge=0)
    watch: bool = True

    @model_validator(mode="after")
    def _has_gradient(self) -> Self:
        if self.where == "loss" and self.estimator == "k1":
            raise ValueError("the gradient of k1 in the loss is 0 on average; use k2 or k3, or where: reward")
        return self


class Critic(Part):
    """The value model. separate: a model of its own, else a linear layer on the policy's trunk, which it then shapes.

    coef: weight of the value loss beside the policy's on a shared trunk. lr: of the critic's own optimiser; 0 is the
    policy's for a separate one, 1e-3 for the layer. clip: of a separate one's gradient. range: how far a value may move
    from its old one before it stops learning, 0 is off. warmup: rollouts at the beginning in which only the critic
    learns.
    """

    separate: bool = True
    coef: float = Field(default=0.1, gt=0)
    lr: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, ge=0)
    range: float = Field(default=0.2, ge=0)
    warmup: int = Field(default=0, ge=0)


class Correction(Part):
    """Truncated importance weights for tokens that the sampler gave other log-probs than the trainer does: see
    objectives/policy.importance."""

    level: Literal["token", "sequence"] = "token"
    cap: float = Field(default=2.0, ge=1)
    how: Literal["truncate", "mask"] = "truncate"


class Algorithm(Part):
    """One row of the table. aggregate "constant" divides by answers x max_new, whatever the answers' lengths.

    resample: how many times more prompts may be asked to replace groups whose answers all have the same reward.
    entropy: nats of loss for a nat of the policy's entropy. entropy_target: nats a token below which that price rises,
    rollout by rollout, and above which it falls to 0; 0: it stays as it is. max_norm: of the gradient, 0 for any.
    """

    row: ClassVar[Knobs] = {}

    type: str
    credit: one_of(advantage.CREDITS) = {"type": "group"}  # type: ignore[valid-type]
    loss: one_of(policy.LOSSES) = {"type": "clip"}  # type: ignore[valid-type]
    aggregate: Literal["token", "sequence", "constant"] = "token"
    kl: Kl = Kl()
    critic: Critic | None = None
    correction: Correction | None = None
    resample: int = Field(default=0, ge=0, le=20)
    entropy: float = 0.0
    entropy_target: float = Field(default=0.0, ge=0)
    max_norm: float = Field(default=1.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _with_row(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        found = dict(given)
        for name, preset in cls.row.items():
            found[name] = merged(preset, found[name]) if name in found else preset
        return found

    @model_validator(mode="after")
    def _critic_where_needed(self) -> Self:
        if (self.credit.type == "gae") != (self.critic is not None):
            raise ValueError("credit gae needs a critic, the other credits have no use for one")
        return self


def merged(preset: Any, given: Any) -> Any:
    """given, with what it leaves out taken from the preset; another `type` has its own defaults."""
    both = isinstance(preset, Mapping) and isinstance(given, Mapping)
    return {**preset, **given} if both and given.get("type", preset.get("type")) == preset.get("type") else given


class Ppo(Algorithm):
    """A critic gives each token its credit; KL is part of the reward: arXiv:1707.06347, as in InstructGPT."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "gae", "gamma": 1.0, "lam": 0.95, "whiten": True},
        "loss": {"type": "clip"}, "critic": {"separate": True},
        "kl": {"where": "reward", "estimator": "k1", "coef": 0.05},
    }  # fmt: skip
    type: Literal["ppo"] = "ppo"


class Rloo(Algorithm):
    """An answer against the mean of the others to the same prompt: arXiv:2402.14740."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "leave_one_out"}, "loss": {"type": "sequence_clip"}, "aggregate": "sequence",
        "kl": {"where": "reward", "estimator": "k1", "coef": 0.05},
    }  # fmt: skip
    type: Literal["rloo"] = "rloo"


class Grpo(Algorithm):
    """Group mean and std; the mean over answers of their token means; k3 in the loss: arXiv:2402.03300."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "group", "std": True}, "loss": {"type": "clip"}, "aggregate": "sequence",
        "kl": {"where": "loss", "estimator": "k3", "coef": 0.04},
    }  # fmt: skip
    type: Literal["grpo"] = "grpo"


class DrGrpo(Algorithm):
    """Without the two divisions that favour long wrong answers and easy or hard prompts: arXiv:2503.20783."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "group", "std": False}, "loss": {"type": "clip"}, "aggregate": "constant",
    }  # fmt: skip
    type: Literal["dr_grpo"] = "dr_grpo"


class Dapo(Algorithm):
    """Clip higher, token mean over the step, groups without spread replaced, no KL: arXiv:2503.14476.

    Its shaping of overlong answers is the stage's knob `shaping`, which this row sets if the recipe does not.
    """

    row: ClassVar[Knobs] = {
        "credit": {"type": "group", "std": True}, "loss": {"type": "clip", "low": 0.2, "high": 0.28}, "resample": 3,
    }  # fmt: skip
    type: Literal["dapo"] = "dapo"


class Gspo(Algorithm):
    """One ratio for an answer: arXiv:2507.18071."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "group", "std": True}, "loss": {"type": "gspo"}, "aggregate": "sequence",
    }  # fmt: skip
    type: Literal["gspo"] = "gspo"


class Cispo(Algorithm):
    """The importance weight is clipped, not the update: arXiv:2506.13585."""

    row: ClassVar[Knobs] = {"credit": {"type": "group", "std": True}, "loss": {"type": "cispo"}}
    type: Literal["cispo"] = "cispo"


class ReinforcePlus(Algorithm):
    """Rewards from each token on, whitened over the whole rollout, KL in the reward: arXiv:2501.03262."""

    row: ClassVar[Knobs] = {
        "credit": {"type": "returns", "whiten": True}, "loss": {"type": "clip"},
        "kl": {"where": "reward", "estimator": "k1", "coef": 0.01},
    }  # fmt: skip
    type: Literal["reinforce++"] = "reinforce++"


ALGORITHMS: Sequence[type[Algorithm]] = (Ppo, Rloo, Grpo, DrGrpo, Dapo, Gspo, Cispo, ReinforcePlus)
AnyAlgorithm = one_of_types(ALGORITHMS)


def is_grouped(a: Algorithm) -> bool:
    """Whether credit compares samples of one prompt, so that there must be several."""
    return str(a.credit.type) in ("group", "leave_one_out")
