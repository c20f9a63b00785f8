"""The value model of PPO: what reward is still to come, before each token of an answer.

`Trunk` is a linear layer on the policy's own hidden states and trained with the policy's optimiser. `Separate` is a
model of its own with its own optimiser, which starts from the policy's weights (or a reward model's) and a value of 0.
Shapes: T tokens of a pack, N targets, D hidden size. Left out on purpose: the loss (objectives/value.py).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from posttrain import shards
from posttrain.errors import UserError
from posttrain.model import Model
from posttrain.packing import Pack
from posttrain.pipeline import Runtime
from posttrain.reward_model import RewardModel, from_policy
from posttrain.train import Master, Optim


class Critic(Protocol):
    """values: of every target's state, fp32 [N], differentiable. h_ND: the policy's hidden states there."""

    def values(self, pack: Pack, h_ND: Tensor) -> Tensor: ...


class Trunk:
    """One linear layer in fp32, 0 at the beginning. Its gradient goes on into the policy."""

    def __init__(self, model: Model):
        width = model.base.get_output_embeddings().weight.shape[1]
        self.layer = nn.Linear(width, 1, device=model.device)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        shards.cut(self.layer)

    def values(self, pack: Pack, h_ND: Tensor) -> Tensor:
        return self.layer(h_ND.float())[:, 0].to(pack.at_N.device)


class Separate:
    """A trunk with one score, read at every target instead of at the last token."""

    def __init__(self, model: RewardModel, how: Optim):
        self.model, self.how = model, how
        with torch.no_grad():
            model.base.score.weight.zero_()
        self.master = Master(model.parameters(), how)

    def values(self, pack: Pack, h_ND: Tensor) -> Tensor:
        return self.model.at_targets(pack)[:, 0]

    def learn(self, loss: Tensor) -> None:
        """Add the gradient of a micro-batch."""
        loss.backward()
        self.master.collect()

    def step(self, share: float) -> float:
        """One optimiser step; share: of the full learning rate. The gradient's norm."""
        norm = self.master.step(self.how.lr * share, self.how.clip)
        if not math.isfinite(norm):
            raise UserError("the critic's gradient is not finite", remedy="a lower critic.lr")
        return norm

    def state(self) -> dict[str, Any]:
        return {"weights": self.master.weights, "adamw": self.master.adamw.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.master.copy_from(state["weights"])
        self.master.adamw.load_state_dict(state["adamw"])
        shards.fit(self.master.adamw)


def separate(policy: Path | str, runtime: Runtime, *, lr: float, clip: float) -> Separate:
    """A critic with the policy's weights."""
    return Separate(from_policy(policy, runtime), Optim(lr, "constant", clip=clip))


class Trained:
    """Policy and the layers that share its optimiser, as the loop sees them."""

    def __init__(self, model: Model, critic: Critic | None):
        self.model, self.critic = model, critic

    def parameters(self) -> list[nn.Parameter]:
        extra = list(self.critic.layer.parameters()) if isinstance(self.critic, Trunk) else []
        return [*self.model.parameters(), *extra]
