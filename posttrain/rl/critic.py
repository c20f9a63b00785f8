"""The value model of PPO: what reward is still to come, before each token of an answer.

`Trunk` is a linear layer on the policy's own hidden states. `Separate` is a model of its own, which starts from the
policy's weights and a value of 0. Each has an optimiser of its own.
Shapes: T tokens of a pack, N targets, D hidden size. Left out on purpose: the loss (objectives/value.py).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posttrain import shards
from posttrain.adamw import Master, Optim
from posttrain.model import Model
from posttrain.packing import Pack
from posttrain.pipeline import Runtime
from posttrain.reward_model import RewardModel, from_policy

LAYER = 1e-3  # learning rate of a new layer on a trunk


class Critic:
    """values: of every target's state, fp32 [N], differentiable. h_ND: the policy's hidden states there."""

    master: Master
    how: Optim

    def values(self, pack: Pack, h_ND: Tensor) -> Tensor:
        raise NotImplementedError

    def finite(self) -> bool:
        """Whether the gradient so far is."""
        return math.isfinite(self.master.norm())

    def step(self, share: float) -> float:
        """One optimiser step; share: of the full learning rate. The gradient's norm, which is finite."""
        return self.master.step(self.how.lr * share, self.how.clip)

    def state(self) -> dict[str, Any]:
        return {"weights": self.master.weights, "adamw": self.master.adamw.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.master.copy_from(state["weights"])
        self.master.adamw.load_state_dict(state["adamw"])
        shards.fit(self.master.adamw)


class Trunk(Critic):
    """One linear layer in fp32, 0 at the beginning. Its gradient goes on into the policy.

    It has an optimiser of its own: at the learning rate of a policy, 1e-4 and less, a new layer would still say nearly
    nothing when the run is over.
    """

    def __init__(self, model: Model, lr: float = LAYER):
        width = model.base.get_output_embeddings().weight.shape[1]
        self.layer = nn.Linear(width, 1, device=model.device)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        shards.cut(self.layer)
        self.how = Optim(lr, "constant")
        self.master = Master(list(self.layer.parameters()), self.how)

    def values(self, pack: Pack, h_ND: Tensor) -> Tensor:
        return self.layer(h_ND.float())[:, 0].to(pack.at_N.device)


class Separate(Critic):
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


def separate(policy: Path | str, runtime: Runtime, *, lr: float, clip: float) -> Separate:
    """A critic with the policy's weights."""
    return Separate(from_policy(policy, runtime), Optim(lr, "constant", clip=clip, moments=runtime.moments))
