"""A reward model: the trunk of a language model with a linear layer that scores the last token of each answer.

The last token is the stop token, as transformers' sequence classifiers score the last token that is no padding; the
folder is such a classifier, with one label for each member of the ensemble. Members share the trunk. Answers are scored
in packs: a prompt stands once, whatever the number of its answers. Scores are in nats of log-odds.

Shapes: T tokens of a pack, B branches (answers), M members, D hidden size.
Left out on purpose: losses (objectives/reward.py), calibration (calibration.py), the Judge protocol (reward_judge.py).
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posttrain import attention, packing, parallel, shards
from posttrain.errors import UserError
from posttrain.head import wide
from posttrain.loading import check_source, choose, explained, keep_memory, memory_hint, with_lora
from posttrain.lora import Lora
from posttrain.model import Model, layers_of, quiet
from posttrain.packing import Branch, Doc, Pack, build
from posttrain.pipeline import Runtime
from posttrain.render import Chat
from posttrain.rows import Message

START = 0.1  # of the usual spread 1 / sqrt(D + 1): with few rows a wide start is noise that training does not undo
ENDING = ("{% set whole %}", "{% endset %}{{ whole if add_generation_prompt else whole.rstrip() }}")


class RewardModel(Model):
    """hf: a transformers sequence classifier (PEFT's when there is an adapter) whose layer `score` has M outputs."""

    PASSES = ("scores", "at_targets")

    def __init__(self, hf: nn.Module, *, runtime: Runtime | None = None, said: str = ""):
        super().__init__(hf, runtime=runtime, said=said)
        self.decoder = self.base.base_model

    @property
    def members(self) -> int:
        return int(self.base.score.weight.shape[0])

    @property
    def flops_per_token(self) -> float:
        """As Model's; the embedding is only looked up."""
        looked_up = {id(m.weight) for m in self.base.modules() if isinstance(m, nn.Embedding)}
        return float(
            sum((6 if p.requires_grad else 4) * p.numel() for p in self.hf.parameters() if id(p) not in looked_up)
        )

    def scores(self, pack: Pack) -> Tensor:
        """Scores [B, M] of a pack's branches, fp32, differentiable, on the pack's device."""
        return self._read(pack, pack.last_B)

    def at_targets(self, pack: Pack) -> Tensor:
        """Scores [N, M] of the states before every target, as `scores` gives those of last tokens."""
        return self._read(pack, pack.at_N)

    def _read(self, pack: Pack, at_X: Tensor) -> Tensor:
        h_XD = self.hidden(pack, at_X).index_select(0, at_X.to(self.device))
        kind = wide(h_XD.dtype)
        return nn.functional.linear(h_XD.to(kind), self.base.score.weight.to(kind)).to(at_X.device)

    def _one_pass(self, pack: Pack) -> Tensor:
        return self.scores(pack).sum()


def from_policy(
    policy: Path | str, runtime: Runtime, *, lora: Lora | None = None, members: int = 1, seed: int = 0
) -> RewardModel:
    """A policy's trunk with new members on top, ready to train.

    Each member's weights are drawn from N(0, START^2 / (D + 1)) by the seed (arXiv:2009.01325 takes START 1).
    """
    model, said = _load(str(policy), runtime, num_labels=members), choose(runtime)[2]
    model.requires_grad_(lora is None)
    start(model.score.weight, seed)
    if lora is not None:
        model = with_lora(model, lora, True, task=None)
        model.get_base_model().score.weight.requires_grad_(True)
    found = RewardModel(model, runtime=runtime, said=said)
    shards.shard(found, layers_of(found.decoder))
    check_scores(found)
    return found


def load_reward(folder: Path | str, runtime: Runtime) -> RewardModel:
    """A saved reward model, to score with. Raises UserError for a folder that is something else."""
    check_source(str(folder))
    kinds = json.loads((Path(folder) / "config.json").read_text()).get("architectures") or [""]
    if not kinds[0].endswith("ForSequenceClassification"):
        raise UserError(
            f"this is no reward model but a {kinds[0] or 'model of an unknown kind'}", where=str(folder),
            remedy="train one with a stage of type reward",
        )  # fmt: skip
    hf = _load(str(folder), runtime).requires_grad_(False)
    model = RewardModel(hf, runtime=runtime, said=choose(runtime)[2])
    shards.shard(model, layers_of(model.decoder))
    return model


def _load(source: str, runtime: Runtime, **more: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    check_source(source)
    device, dtype, _ = choose(runtime)
    attention.register()
    keep_memory()
    with explained(source), memory_hint(), quiet(), _silent():
        hf = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=dtype, attn_implementation=attention.NAME, **more
        )
    if not isinstance(getattr(hf, "score", None), nn.Linear):
        raise UserError(f"{type(hf).__name__} has no linear layer `score`", where=source)
    return hf if parallel.world() > 1 else hf.to(device)  # shards go there by themselves


@torch.no_grad()
def start(weight_MD: Tensor, seed: int) -> None:
    """Draw the members' first weights: each by a seed of its own, so that member 2 does not depend on their number."""
    for m, weight_D in enumerate(weight_MD):
        g = torch.Generator().manual_seed(7919 * seed + m)
        weight_D.copy_(torch.randn(len(weight_D), generator=g) * START / (len(weight_D) + 1) ** 0.5)


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' notice that the layer `score` is new and the vocabulary's output layer not used."""
    log = logging.getLogger("transformers")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@torch.no_grad()
def check_scores(model: RewardModel) -> None:
    """Our scores against transformers' own on a few tokens: some architectures do more to their hidden states."""
    n = min(8, model.base.config.get_text_config().vocab_size - 1)
    ids_T = torch.arange(n) + (0 if model.base.config.get_text_config().pad_token_id != n - 1 else 1)
    theirs_M = model.hf(input_ids=ids_T[None].to(model.device), use_cache=False).logits[0].float().cpu()
    ours_M = model.scores(build([Doc([], [Branch(ids_T.tolist(), [True] * n)])]))[0].float()
    allowed = 0.25 if model.dtype == torch.bfloat16 else 1e-3
    if not torch.allclose(ours_M, theirs_M, rtol=allowed / 10, atol=allowed):
        raise UserError(
            f"the architecture {model.base.config.model_type!r} does more to its scores than is supported here",
            remedy="use a Llama, Qwen, Gemma, Mistral, Phi, GPT-2 or SmolLM model",
        )


def answers_doc(chat: Chat, prompt: Sequence[Message], answers: Sequence[Message]) -> Doc:
    """The prompt once and every answer with its stop token."""
    cut = [chat.continuation(prompt, answer) for answer in answers]
    return Doc(cut[0][0], [Branch(ids, [True] * len(ids)) for _, ids in cut])


@torch.no_grad()
def score_docs(
    model: RewardModel,
    docs: Sequence[Doc],
    *,
    micro_tokens: int,
    pad_id: int,
    tick: Callable[[int], Any] | None = None,
) -> list[Tensor]:
    """Scores [answers of the document, M] of each document, in order. No document may exceed micro_tokens."""
    found: list[Tensor] = [torch.empty(0)] * len(docs)
    plan = packing.plan([packing.size(d) for d in docs], micro_tokens, seed=None)
    packs = ((indices, build([docs[i] for i in indices], pad_to=micro_tokens, pad_id=pad_id)) for indices in plan)
    for (indices, _), score_BM in parallel.each(packs, lambda item: model.scores(item[1]), lambda item: item[1].tokens):
        parts = score_BM.split([len(docs[i].branches) for i in indices])
        for i, score_AM in zip(indices, parts):
            found[i] = score_AM
        if tick:
            tick(len(indices))
    return found


def save_reward(model: RewardModel, chat: Chat, folder: Path) -> list[str]:
    """Write a folder that AutoModelForSequenceClassification loads and that scores as here. Returns warnings.

    The padding token is one that ends no answer, since transformers looks for the last token that is no padding. The
    template ends with the stop token: blanks that it puts behind the last turn are stripped.
    """
    pad_id = scoring_pad(chat)
    config = model.base.config
    config.pad_token_id = config.get_text_config().pad_token_id = pad_id
    model.save(folder)
    chat.tokenizer.pad_token = chat.tokenizer.convert_ids_to_tokens(pad_id)
    ended = chat if chat.template.startswith(ENDING[0]) else ends_with_stop(chat)
    ended.save(folder)
    return [] if _ends(ended) else ["the chat template puts text behind the stop token: cut it off in transformers"]


def scoring_pad(chat: Chat) -> int:
    """A token that never ends an answer: the tokenizer's own padding, else another control token, else any."""
    special = sorted(chat.tokenizer.added_tokens_decoder)
    options = [chat.pad_id, *special, *range(len(chat.tokenizer))]
    return int(next(i for i in options if i not in chat.stop_ids[:1]))


def ends_with_stop(chat: Chat) -> Chat:
    """The same template without blanks behind an answered conversation."""
    from dataclasses import replace

    return replace(chat, template=chat.template.join(ENDING))


def _ends(chat: Chat) -> bool:
    rows = [{"role": "user", "content": "probe"}, {"role": "assistant", "content": "probe"}]
    ids = chat.tokenizer.apply_chat_template(rows, chat_template=chat.template, return_dict=True)["input_ids"]
    return bool(ids[-1] in chat.stop_ids)


def member_means(model: RewardModel, score_AM: Tensor) -> dict[str, Any]:
    """Mean and spread of each member over some answers: what makes the scores of several models comparable."""
    spread = score_AM.std(0) if len(score_AM) > 1 else torch.ones(model.members)
    return {"mean": score_AM.mean(0).tolist(), "std": spread.tolist(), "answers": len(score_AM)}
