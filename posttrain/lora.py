"""Knobs of low-rank adapters; model.py turns them into PEFT layers. No torch here, so that stages can name them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Lora(BaseModel):
    """Low-rank adapters (arXiv:2106.09685): W + (alpha / rank) B A, only A and B are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    targets: tuple[str, ...] = ()  # names of linear layers; () means every linear layer but the head
    rank_stabilised: bool = False  # scale by alpha / sqrt(rank), arXiv:2312.03732
    dora: bool = False  # train each output's length apart from its direction, arXiv:2402.09353
    quantize: Literal["none", "int8", "nf4"] = "none"  # the frozen base weights, arXiv:2208.07339, arXiv:2305.14314
