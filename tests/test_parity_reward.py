"""Reward losses and gradients beside TRL's RewardTrainer: one tiny random classifier, fp32, the same pairs as text.

TRL: a real RewardTrainer; its tokenisation, its collator (2 x pairs padded rows, prompts twice) and its compute_loss
with margins and with centring, then backward. Here: Chat.continuation -> packs with shared prompts ->
stages.reward.group_loss in two micro-batches that share one denominator.
Token ids must be equal; the loss within 1e-5; the gradient of every parameter, the score layer's too, within 1e-4 of
that tensor's largest entry.
Left out on purpose: TRL has no rankings, ratings, soft labels or ensembles to compare with.
"""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_parity import PAIRS, arguments, gradients, same, texts, their_step, their_tokenizer

from posttrain.comparisons import from_pair
from posttrain.objectives import reward
from posttrain.packing import Doc, build
from posttrain.render import Chat, load_chat
from posttrain.reward_model import RewardModel, answers_doc
from posttrain.stages.reward import Objective, group_loss

pytestmark = pytest.mark.parity
MARGINS = (3.0, 0.0, 1.0, 2.0, 0.5)


def classifier() -> Any:
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(1)
    config = tiny.CONFIGS["llama"]()
    config.num_labels = 1
    hf = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for p in hf.parameters():
            p.normal_(0.0, 0.3) if p.ndim > 1 else p.add_(torch.randn_like(p) * 0.1)
    return hf.eval()


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return load_chat(folder, "chatml")


@pytest.mark.parametrize(("margin", "centre"), [(False, None), (True, None), (False, 0.05), (True, 0.05)])
def test_reward(chat: Chat, tmp_path: Path, margin: bool, centre: float | None) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = [
        {"prompt": texts(p.prompt), "chosen": texts((p.chosen,)), "rejected": texts((p.rejected,))}
        | ({"margin": m} if margin else {})
        for p, m in zip(PAIRS, MARGINS)
    ]
    config = trl.RewardConfig(**arguments(tmp_path), center_rewards_coefficient=centre, eos_token="<|im_end|>")
    trainer = trl.RewardTrainer(
        classifier(), config, train_dataset=Dataset.from_list(rows), processing_class=their_tokenizer()
    )
    docs = [answers_doc(chat, p.prompt, (p.chosen, p.rejected)) for p in PAIRS]
    made = list(trainer.train_dataset)
    for row, doc in zip(made, docs, strict=True):
        assert [row["chosen_ids"], row["rejected_ids"]] == [doc.prefix + b.ids for b in doc.branches]
    theirs = their_step(trainer, trainer.data_collator(made))

    groups = [from_pair(p.model_copy(update={"margin": m})) for p, m in zip(PAIRS, MARGINS)]
    knobs = {"margin": margin, "centre": centre or 0.0}
    objective = Objective("bradley_terry", lambda p: reward.bradley_terry(p, **knobs))
    model, value = RewardModel(classifier()), 0.0
    for part in (range(0, 2), range(2, 5)):
        here: list[Doc] = [docs[i] for i in part]
        pack = build(here, pad_to=512, pad_id=chat.pad_id)
        assert pack.tokens < pack.unshared_tokens
        loss, _ = group_loss(
            model.scores(pack), [groups[i] for i in part], objective, float(len(PAIRS)), torch.ones(len(here), 1)
        )
        loss.backward()
        value += float(loss.detach())
    same(f"reward, margin {margin}, centre {centre}", (value, gradients(model.hf)), theirs)
