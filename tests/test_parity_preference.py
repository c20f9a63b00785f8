"""The rest of the DPO family beside TRL's, in the way of test_parity.py: whole path against whole path.

DPOTrainer      exo_pair, nca_pair, bco_pair, sppo_hard, aot, apo_down, discopop, sigmoid_norm; its f-divergences; its
                ld_alpha; its use_weighting (WPO). aot here in two micro-batches, there in one.
CPOTrainer      cpo: the preference term on a batch, with NLL on one pair (TRL takes the NLL's mean over the batch's
                tokens, here each pair counts the same).
ORPOTrainer     the odds ratio term alone, function against function: TRL's SFT term covers the prompt too.
KTOTrainer      kto and apo_zero_unpaired, its mismatched answers given to ours, in two micro-batches.
Not in TRL: cdpo (its sigmoid ignores label_smoothing; see one pair in test_parity.py), soft, odpo, bco with its shift.
Not here: TRL's aot_unpaired.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_parity import (  # noqa: F401  (fixtures among them)
    BETA,
    PAIRS,
    arguments,
    chat,
    docs,
    docs_of,
    dpo,
    gradients,
    our_loss,
    pair_doc,
    policy,
    reference,
    same,
    talk,
    texts,
    their_loss,
    their_step,
    their_tokenizer,
    trl,
)

from posttrain.model import Model
from posttrain.objectives import preference, unpaired
from posttrain.objectives.preference import Pairs
from posttrain.packing import Branch, Doc, build
from posttrain.rows import Message, Pair
from posttrain.stages.thumbs import logps, thumb_loss

pytestmark = pytest.mark.parity
# ruff: noqa: F811


def packs_of(docs: list[Doc], chat: Any) -> list[Any]:
    return [build(part, pad_to=512, pad_id=chat.pad_id) for part in (docs[:2], docs[2:])]


def far() -> Any:
    return tiny.model(attn="sdpa", seed=7)


def dpo_trainer(trl: Any, folder: Path, ref: Any, pairs: list[Pair], **more: Any) -> Any:
    from datasets import Dataset

    rows = [{"prompt": texts(p.prompt), "chosen": texts((p.chosen,)), "rejected": texts((p.rejected,))} for p in pairs]
    config = trl.DPOConfig(**arguments(folder), beta=BETA, **more)
    return trl.DPOTrainer(
        policy(), ref, config, train_dataset=Dataset.from_list(rows), processing_class=their_tokenizer()
    )


KINDS = [
    ("exo_pair", preference.exo, {"label_smoothing": 0.1}),
    ("nca_pair", preference.nca, {}),
    ("bco_pair", preference.bco_pair, {}),
    ("sppo_hard", preference.sppo, {}),
    ("apo_down", preference.apo_down, {}),
    ("discopop", preference.discopop, {"tau": 0.05}),
    ("sigmoid_norm", preference.norm_dpo, {}),
]


@pytest.mark.parametrize(("kind", "loss", "more"), KINDS, ids=[f"{k}-{i}" for i, (k, *_) in enumerate(KINDS)])
def test_dpo_trainer(dpo: Any, chat: Any, docs: list[Doc], kind: str, loss: Any, more: dict[str, float]) -> None:
    theirs = their_loss(dpo, list(range(len(PAIRS))), [kind], more.get("label_smoothing", 0.0), [1.0])
    *ours, _ = our_loss(packs_of(docs, chat), partial(loss, beta=BETA, **more))
    same(f"{loss.__name__} beside TRL's {kind}", tuple(ours), theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot(trl: Any, chat: Any, tmp_path: Path, smoothing: float) -> None:
    """Answers of like length and a reference far away, so that it orders the pairs otherwise: then aot is not dpo."""
    words = ["cat", "dog", "sky", "cup", "hat", "fog", "jar", "kid", "bus", "pig"]
    pairs = [
        Pair(prompt=talk(f"Name {n} thing"), chosen=Message(role="assistant", content=a),
             rejected=Message(role="assistant", content=b))
        for n, (a, b) in enumerate(zip(words[::2], words[1::2], strict=True))
    ]  # fmt: skip
    trainer = dpo_trainer(trl, tmp_path, far(), pairs)
    theirs = their_loss(trainer, list(range(len(pairs))), ["aot"], smoothing, [1.0])
    plain = their_loss(trainer, list(range(len(pairs))), ["sigmoid"], 0.0, [1.0])
    objective = partial(preference.aot, beta=BETA, label_smoothing=smoothing)
    *ours, _ = our_loss(packs_of([pair_doc(chat, p) for p in pairs], chat), objective, other=far())
    same(f"aot, smoothing {smoothing}", tuple(ours), theirs)
    assert abs(theirs[0] - plain[0]) > 0.01


@pytest.mark.parametrize(
    ("kind", "coef", "more"),
    [("forward_kl", 0.5, {"divergence": "forward_kl"}), ("js_divergence", 0.5, {"divergence": "js"}),
     ("alpha_divergence", 0.3, {"divergence": "alpha", "alpha": 0.3})],
)  # fmt: skip
def test_divergences(dpo: Any, chat: Any, docs: list[Doc], kind: str, coef: float, more: dict[str, Any]) -> None:
    dpo.f_divergence_type, dpo.f_alpha_divergence_coef = kind, coef
    try:
        theirs = their_loss(dpo, list(range(len(PAIRS))), ["sigmoid"], 0.0, [1.0])
    finally:
        dpo.f_divergence_type = "reverse_kl"
    *ours, _ = our_loss(packs_of(docs, chat), partial(preference.f_dpo, beta=BETA, **more))
    same(f"f_dpo beside TRL's {kind}", tuple(ours), theirs)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_length_desensitising(dpo: Any, chat: Any, docs: list[Doc], alpha: float) -> None:
    dpo.ld_alpha = alpha
    try:
        theirs = their_loss(dpo, list(range(len(PAIRS))), ["sigmoid"], 0.0, [1.0])
    finally:
        dpo.ld_alpha = None
    *ours, _ = our_loss(packs_of(docs, chat), partial(preference.ld_dpo, beta=BETA, alpha=alpha))
    same(f"ld_dpo beside TRL's ld_alpha {alpha}", tuple(ours), theirs)


def test_wpo(trl: Any, chat: Any, docs: list[Doc], tmp_path: Path) -> None:
    trainer = dpo_trainer(trl, tmp_path, reference(), PAIRS, use_weighting=True)
    theirs = their_step(trainer, trainer.data_collator(list(trainer.train_dataset)))
    *ours, _ = our_loss(packs_of(docs, chat), partial(preference.wpo, beta=BETA))
    same("wpo beside TRL's use_weighting", tuple(ours), theirs)


@pytest.mark.parametrize(("alpha", "count"), [(0.0, len(PAIRS)), (0.7, 1)])
def test_cpo(trl: Any, chat: Any, tmp_path: Path, alpha: float, count: int) -> None:
    from datasets import Dataset

    cpo = pytest.importorskip("trl.experimental.cpo")
    rows = [
        {"prompt": p.prompt[-1].content + "\n", "chosen": p.chosen.content, "rejected": p.rejected.content}
        for p in PAIRS[:count]
    ]
    config = cpo.CPOConfig(
        **(arguments(tmp_path) | {"max_length": 200}), loss_type="sigmoid", cpo_alpha=alpha, beta=BETA,
        remove_unused_columns=False,
    )  # fmt: skip
    data = Dataset.from_list(rows)
    trainer = cpo.CPOTrainer(policy(), config, train_dataset=data, processing_class=their_tokenizer())
    rows = list(trainer.train_dataset)
    theirs = their_step(trainer, trainer.data_collator(rows))
    docs = docs_of(rows)
    packs = [build([doc], pad_to=512, pad_id=chat.pad_id) for doc in docs]
    *ours, _ = our_loss(packs, partial(preference.cpo, beta=BETA, alpha=alpha))
    same(f"cpo, alpha {alpha}", tuple(ours), theirs)


def test_orpo_odds_ratio(trl: Any) -> None:
    """Losses and gradients with respect to mean log-probs, from almost certain to very unlikely answers."""
    from types import SimpleNamespace

    orpo = pytest.importorskip("trl.experimental.orpo")
    stub = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device=torch.device("cpu")))
    means = torch.tensor([[-0.01, -3.0, -0.7, -9.0], [-2.0, -0.02, -0.69, -0.5]])
    w, l = (x.clone().requires_grad_() for x in means)
    theirs = -orpo.ORPOTrainer.odds_ratio_loss(stub, w, l)[0]
    theirs.sum().backward()
    v, k = (x.clone().requires_grad_() for x in means)
    one = torch.ones(4)
    ours = preference.orpo(Pairs(v * 5, k * 2, one, one, 5 * one, 2 * one), weight=0.3) + v
    ours.sum().backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for mine, other in ((v, w), (k, l)):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_kto(trl: Any, chat: Any, docs: list[Doc], tmp_path: Path, kind: str) -> None:
    """TRL turns the batch's answers by one place for its z. Policy and reference change places: z is above 0 so."""
    from datasets import Dataset

    rows = [
        {"prompt": texts(p.prompt), "completion": texts((a,)), "label": up}
        for p in PAIRS
        for a, up in ((p.chosen, True), (p.rejected, False))
    ]
    rows[3]["label"] = True  # not half and half
    config = trl.KTOConfig(
        **(arguments(tmp_path) | {"per_device_train_batch_size": len(rows)}), loss_type=kind, beta=BETA,
        desirable_weight=1.0, undesirable_weight=1.4,
    )  # fmt: skip
    trainer = trl.KTOTrainer(
        reference(), policy(), config, train_dataset=Dataset.from_list(rows), processing_class=their_tokenizer()
    )
    batch = list(trainer.train_dataset)
    theirs = their_step(trainer, trainer.data_collator(batch))

    def doc(row: Any, name: str) -> Doc:
        return Doc(row["prompt_ids"], [Branch(row[name], [True] * len(row[name]))])

    model, ref = Model(reference()), Model(policy())
    z = torch.zeros(())
    if kind == "kto":
        strangers = build([doc(r, "KL_completion_ids") for r in batch], pad_to=512, pad_id=chat.pad_id)
        with torch.no_grad():
            z = unpaired.drift(logps(model, strangers), logps(ref, strangers))
        assert float(z) > 0.1
        assert float(z) == pytest.approx(trainer._metrics["train"]["kl"][-1], rel=1e-4, abs=1e-6)
    objective = partial(getattr(unpaired, kind), beta=BETA, undesirable=1.4)
    value = 0.0
    for part in (batch[:4], batch[4:]):
        pack = build([doc(r, "completion_ids") for r in part], pad_to=512, pad_id=chat.pad_id)
        with torch.no_grad():
            ref_B = logps(ref, pack)
        up_B = torch.tensor([bool(r["label"]) for r in part])
        micro, _ = thumb_loss(unpaired.Thumbs(logps(model, pack), ref_B, up_B, z), pack, objective, float(len(batch)))
        micro.backward()
        value += float(micro.detach())
    same(f"{kind}, z {float(z):.3f}", (value, gradients(model.hf)), theirs)
