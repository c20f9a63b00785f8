"""Losses and gradients beside TRL's, whole path against whole path, on one tiny random Llama in fp32.

What is compared, always with the same weights and the same conversations as text:

SFT         TRL: a real SFTTrainer with assistant_only_loss; its tokenisation, its collator (one padded batch) and its
            compute_loss, then backward. Here: render.Chat.example -> packing.build -> stages.sft.token_loss, two
            packs that share one denominator. Losses nll (Model.nll, gradient made in the forward; also with tied
            embeddings) and dft (Model.token_logps).
preference  TRL: a real DPOTrainer with a perturbed copy of the policy as reference; its batch has 2 x pairs padded
            rows, prompts twice. Here: Chat.continuation -> packs with shared prompts -> stages.preference.pair_loss
            in two micro-batches, reference log-probs computed beforehand. TRL's loss types sigmoid, hinge, ipo,
            robust, apo_zero are compared with dpo, hinge, ipo, robust, apo_zero; the metrics accuracy and margin too.
            The rest of the family: test_parity_preference.py.
one pair    What TRL has in another shape for a batch: its aot is label-smoothed DPO when there is one pair (its
            sigmoid ignores label_smoothing), and its sft term is a mean over the batch's tokens, ours over pairs.
simpo       TRL: a real CPOTrainer (trl.experimental.cpo) with loss_type simpo and cpo_alpha 0, on its own tokens.

Token ids and targets must be equal; losses within 1e-5 of the loss; the gradient of every parameter within 1e-4 of
that tensor's largest entry. The largest differences are printed (pytest -s) as shares of these two scales.
Left out on purpose: optimiser steps, bf16.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from posttrain.model import Model
from posttrain.objectives import preference
from posttrain.packing import Branch, Doc, Pack, build
from posttrain.render import Chat, load_chat
from posttrain.rows import Demo, Message, Pair
from posttrain.stages.preference import Given, look_ahead, pair_loss, score
from posttrain.stages.sft import token_loss

pytestmark = pytest.mark.parity
LOSS, GRADIENT = 1e-5, 1e-4  # allowed differences: of the loss, of a gradient's largest entry
BETA = 0.1

# ChatML as render.py writes it, with TRL's marks around what is trained and no newline after the last message:
# DPOTrainer makes everything behind the prompt a target, here nothing behind the stop token is one.
TEMPLATE = (
    "{% for m in messages %}{{ '\n' if not loop.first else '' }}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def talk(*texts: str, system: str = "") -> tuple[Message, ...]:
    """User and assistant by turns, the user first."""
    turns = [Message(role=("user", "assistant")[n % 2], content=t) for n, t in enumerate(texts)]
    return (Message(role="system", content=system), *turns) if system else tuple(turns)


DEMOS = [
    Demo(messages=talk("hello", "Hi.")),
    Demo(messages=talk("Name three colours.", "Red, green and blue.")),
    Demo(messages=talk("two and two?", "Four.", "and three?", "Seven: four and three make seven.")),
    Demo(messages=talk("Why is the sky blue?", "Air scatters blue light more than red light.", system="Be brief.")),
    Demo(messages=talk("What does the user ask?", "The assistant answers in one or two sentences.")),
]
PAIRS = [
    Pair(prompt=talk("hello"), chosen=Message(role="assistant", content="Hi, what can I do?"),
         rejected=Message(role="assistant", content="no")),
    Pair(prompt=talk("two and two?", "Four.", "and three?"), chosen=Message(role="assistant", content="Seven."),
         rejected=Message(role="assistant", content="Eight, I think, but I am not sure at all.")),
    Pair(prompt=talk("Name a colour.", system="Be brief."), chosen=Message(role="assistant", content="Red."),
         rejected=Message(role="assistant", content="the the the the the the the the")),
    Pair(prompt=talk("Why is the sky blue?"),
         chosen=Message(role="assistant", content="Air scatters blue light more than red light."),
         rejected=Message(role="assistant", content="Because it is.")),
    Pair(prompt=talk("What does the assistant do when the user asks a long question about nothing?"),
         chosen=Message(role="assistant", content="Answer."), rejected=Message(role="assistant", content="Ask.")),
]  # fmt: skip


@pytest.fixture(scope="module")
def trl() -> Any:
    """The package, imported here and not above: collecting the other tests must not wait for it."""
    return pytest.importorskip("trl")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.tokenizer().save_pretrained(folder)
    return load_chat(folder, "chatml")


def policy(kind: str = "llama") -> Any:
    return tiny.model(kind, attn="sdpa", seed=1)


def reference() -> Any:
    """The policy with noise on every weight: log-ratios of a few nats, both signs."""
    hf = copy.deepcopy(policy())
    torch.manual_seed(2)
    with torch.no_grad():
        for p in hf.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return hf


def their_tokenizer() -> Any:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "bf16": False, "use_cpu": True, "gradient_checkpointing": False,
        "report_to": [], "max_length": None, "per_device_train_batch_size": 8, "disable_tqdm": True,
    }  # fmt: skip


def texts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def their_step(trainer: Any, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients by TRL's own compute_loss."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return float(loss.detach()), gradients(trainer.model)


def gradients(hf: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in hf.named_parameters()}


def same(title: str, ours: tuple[float, dict[str, Any]], theirs: tuple[float, dict[str, Any]]) -> None:
    """Loss and every gradient within the tolerances; prints the largest differences."""
    (our_loss, our_grads), (their_loss, their_grads) = ours, theirs
    assert our_grads.keys() == their_grads.keys()
    off = abs(our_loss - their_loss) / max(1e-12, abs(their_loss))
    shares = {n: float((our_grads[n] - g).abs().max() / g.abs().max()) for n, g in their_grads.items()}
    worst = max(shares, key=shares.__getitem__)
    print(f"\n{title}: loss {their_loss:.6f}, off by {off:.1e}; gradients off by up to {shares[worst]:.1e} ({worst})")
    assert off < LOSS
    assert shares[worst] < GRADIENT


@pytest.mark.parametrize(("loss", "kind"), [("nll", "llama"), ("nll", "smollm"), ("dft", "llama")])
def test_sft(trl: Any, chat: Chat, tmp_path: Path, loss: str, kind: str) -> None:
    from datasets import Dataset

    config = trl.SFTConfig(**arguments(tmp_path), assistant_only_loss=True, loss_type=loss)
    data = Dataset.from_list([{"messages": texts(d.messages)} for d in DEMOS])
    trainer = trl.SFTTrainer(policy(kind), config, train_dataset=data, processing_class=their_tokenizer())
    rows = list(trainer.train_dataset)
    docs = [Doc([], [Branch(*chat.example(d.messages))]) for d in DEMOS]
    for row, doc in zip(rows, docs, strict=True):
        ids, mask = doc.branches[0]
        assert row["input_ids"] == ids
        assert row["labels"] == [i if wanted else -100 for i, wanted in zip(ids, mask, strict=True)]
    theirs = their_step(trainer, trainer.data_collator(rows))

    model = Model(policy(kind))
    total = float(sum(sum(b.mask) for d in docs for b in d.branches))
    value = 0.0
    for part in (docs[:3], docs[3:]):
        micro, _ = token_loss(model, build(part, pad_to=256, pad_id=chat.pad_id), loss, total)
        micro.backward()
        value += float(micro.detach())
    same(f"sft {loss}, {kind}", (value, gradients(model.hf)), theirs)


@pytest.fixture(scope="module")
def dpo(trl: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A DPOTrainer whose loss type the tests set."""
    from datasets import Dataset

    rows = [{"prompt": texts(p.prompt), "chosen": texts((p.chosen,)), "rejected": texts((p.rejected,))} for p in PAIRS]
    config = trl.DPOConfig(**arguments(tmp_path_factory.mktemp("dpo")), beta=BETA)
    return trl.DPOTrainer(
        policy(), reference(), config, train_dataset=Dataset.from_list(rows), processing_class=their_tokenizer()
    )


@pytest.fixture(scope="module")
def docs(chat: Chat) -> list[Doc]:
    return [pair_doc(chat, p) for p in PAIRS]


def pair_doc(chat: Chat, pair: Pair) -> Doc:
    (prompt, chosen), (_, rejected) = (chat.continuation(pair.prompt, a) for a in (pair.chosen, pair.rejected))
    return Doc(prompt, [Branch(ids, [True] * len(ids)) for ids in (chosen, rejected)])


def their_loss(dpo: Any, rows: list[int], kinds: list[str], smoothing: float, weights: list[float]) -> Any:
    """(loss, gradients) of TRL for some of the pairs; the trainer's metrics start empty."""
    dpo.loss_types, dpo.label_smoothing, dpo.loss_weights = kinds, smoothing, weights
    dpo._metrics["train"].clear()
    return their_step(dpo, dpo.data_collator([dpo.train_dataset[i] for i in rows]))


def our_loss(
    packs: list[Pack], objective: Any, sft: float = 0.0, other: Any = None
) -> tuple[float, dict[str, Any], dict[str, float]]:
    """(loss, gradients, facts) of the same pairs in some micro-batches."""
    model, ref = Model(policy()), Model(other or reference())
    with torch.no_grad():
        ref_P22 = torch.cat([score(ref, pack) for pack in packs])
    total, value, sums = float(len(ref_P22)), 0.0, {}
    g = Given(ref_P22[..., 0], ref_P22[..., 1], *torch.zeros(3, len(ref_P22)))
    rows = torch.arange(len(ref_P22)).split([p.branches // 2 for p in packs])
    steps = list(zip([r.tolist() for r in rows], packs, strict=True))
    look_ahead(model, steps, g, objective)
    for indices, pack in steps:
        micro, facts = pair_loss(model, pack, g.at(indices), objective, total, sft)
        micro.backward()
        value += float(micro.detach())
        sums = {k: sums.get(k, 0.0) + s for k, (s, _) in facts.items()}
    return value, gradients(model.hf), {k: s / total for k, s in sums.items()}


def test_pairs_have_the_same_tokens(dpo: Any, docs: list[Doc]) -> None:
    for row, doc in zip(dpo.train_dataset, docs, strict=True):
        assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == (
            doc.prefix,
            *(b.ids for b in doc.branches),
        )


@pytest.mark.parametrize(
    ("kind", "loss", "smoothing"),
    [("sigmoid", "dpo", 0.0), ("hinge", "hinge", 0.0), ("ipo", "ipo", 0.0), ("robust", "robust", 0.1),
     ("apo_zero", "apo_zero", 0.0)],
)  # fmt: skip
def test_preference(dpo: Any, chat: Chat, docs: list[Doc], kind: str, loss: str, smoothing: float) -> None:
    theirs = their_loss(dpo, list(range(len(PAIRS))), [kind], smoothing, [1.0])
    more = {"label_smoothing": smoothing} if smoothing else {}
    packs = [build(part, pad_to=512, pad_id=chat.pad_id) for part in (docs[:2], docs[2:])]
    assert all(p.tokens < p.unshared_tokens for p in packs)  # prompts are shared
    *ours, facts = our_loss(packs, lambda p: getattr(preference, loss)(p, beta=BETA, **more))
    same(f"{loss} beside TRL's {kind}", tuple(ours), theirs)
    metrics = {k: sum(v) / len(v) for k, v in dpo._metrics["train"].items() if k.startswith("rewards/")}
    assert facts["accuracy"] == pytest.approx(metrics["rewards/accuracies"])
    assert 0 < facts["accuracy"] < 1  # both signs occur, so neither side of a loss goes unseen
    assert BETA * facts["margin"] == pytest.approx(metrics["rewards/margins"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("row", [1, 3])
@pytest.mark.parametrize(
    ("kinds", "weights", "smoothing", "sft"),
    [(["aot"], [1.0], 0.2, 0.0), (["sigmoid", "sft"], [1.0, 0.5], 0.0, 0.5)],
    ids=["smoothed", "with-sft"],
)  # fmt: skip
def test_one_pair(
    dpo: Any,
    chat: Chat,
    docs: list[Doc],
    row: int,
    kinds: list[str],
    weights: list[float],
    smoothing: float,
    sft: float,
) -> None:
    theirs = their_loss(dpo, [row], kinds, smoothing, weights)
    pack = build([docs[row]], pad_to=256, pad_id=chat.pad_id)
    *ours, _ = our_loss([pack], lambda p: preference.dpo(p, beta=BETA, label_smoothing=smoothing), sft)
    same(f"dpo, pair {row}, beside TRL's {'+'.join(kinds)}", tuple(ours), theirs)


def docs_of(rows: list[dict[str, list[int]]]) -> list[Doc]:
    """The pairs that TRL's CPO trainer tokenised, as documents."""

    def answer(row: dict[str, list[int]], side: str) -> Branch:
        ids = [i for i in row[f"{side}_labels"] if i != -100]
        return Branch(ids, [True] * len(ids))

    return [
        Doc(
            [i for i, label in zip(r["chosen_input_ids"], r["chosen_labels"], strict=True) if label == -100],
            [answer(r, "chosen"), answer(r, "rejected")],
        )
        for r in rows
    ]


def test_simpo(trl: Any, chat: Chat, tmp_path: Path) -> None:
    """TRL writes gamma inside: beta (w - l - gamma / beta), ours beta (w - l) - gamma."""
    from datasets import Dataset

    cpo = pytest.importorskip("trl.experimental.cpo")
    rows = [
        {"prompt": p.prompt[-1].content + "\n", "chosen": p.chosen.content, "rejected": p.rejected.content}
        for p in PAIRS
    ]
    config = cpo.CPOConfig(
        **(arguments(tmp_path) | {"max_length": 200}), loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = cpo.CPOTrainer(
        policy(), config, train_dataset=Dataset.from_list(rows), processing_class=their_tokenizer()
    )
    rows = list(trainer.train_dataset)
    theirs = their_step(trainer, trainer.data_collator(rows))
    docs = docs_of(rows)
    packs = [build(part, pad_to=512, pad_id=chat.pad_id) for part in (docs[:2], docs[2:])]
    *ours, _ = our_loss(packs, lambda p: preference.simpo(p, beta=2.0, gamma=1.0))
    same("simpo beside TRL's CPO", tuple(ours), theirs)
