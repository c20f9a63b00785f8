"""The loop: exact accumulation, schedules, resume after SIGKILL with the same bytes, early stop, NaN said clearly."""

import json
import signal

import pytest
import tiny
import torch
from killed import outcome

from posttrain import packing, train
from posttrain.errors import UserError
from posttrain.model import load_model
from posttrain.pipeline import Runtime
from posttrain.progress import Progress
from posttrain.stages.sft import held_out, token_loss

MICRO = 128


def documents(n=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    docs = []
    for _ in range(n):
        length = int(torch.randint(6, 40, (1,), generator=g))
        ids = torch.randint(5, 60, (length,), generator=g).tolist()
        docs.append(packing.Doc([], [packing.Branch(ids, [i > length // 3 for i in range(length)])]))
    return docs


def rows_of(docs):
    counts = [float(sum(d.branches[0].mask)) for d in docs]
    return train.Rows([packing.size(d) for d in docs], counts, [f"row-{i}" for i in range(len(docs))])


def work(folder, out, docs, *, micro=MICRO, batch=256, steps=6, precision="fp32", evaluate=False, **how):
    model = load_model(folder, Runtime(precision=precision), train=True)
    rows = rows_of(docs)

    def loss(indices, total):
        return token_loss(model, packing.build([docs[i] for i in indices], pad_to=micro), "nll", total)

    steps, batches = train.schedule(rows, micro_tokens=micro, batch_tokens=batch, epochs=1, steps=steps, seed=3)
    out.mkdir(exist_ok=True)
    cursor = train.train(
        model, rows, loss, optim=train.Optim(how.pop("lr", 1e-2), clip=1.0, warmup=0.2), steps=steps, batches=batches,
        out=out, progress=Progress("silent"), **how,
        evaluate=(lambda: held_out(model, docs, micro, 0)) if evaluate else None,
    )  # fmt: skip
    return model, cursor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("tiny"))


def test_learns(folder, tmp_path):
    _, cursor = work(folder, tmp_path, documents(), steps=12, evaluate=True)
    held = [e["held_loss"] for e in cursor.log if "held_loss" in e]
    assert held[-1] < held[0] - 0.5


def test_accumulated_micro_batches_equal_one_large_batch(folder, tmp_path):
    """The same rows as one micro-batch of 2048 tokens, or as many of 64: the same gradient."""
    docs = documents()
    gradients = []
    for micro in (2048, 64):
        model = load_model(folder, Runtime(precision="fp32"), train=True)
        master = train.Master(model.parameters(), train.Optim(1e-3))
        rows = rows_of(docs)
        total = sum(rows.counts)
        for indices in packing.plan(rows.sizes, micro, seed=0):
            pack = packing.build([docs[i] for i in indices], pad_to=micro)
            token_loss(model, pack, "nll", total)[0].backward()
            master.collect()
        gradients.append([g.clone() for g in master.grads])
    for one, many in zip(*gradients):
        torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-6)


def test_every_row_is_seen_once_an_epoch():
    rows = rows_of(documents(50))
    for epoch in (0, 1):
        steps = train.steps_of(rows, 64, 256, 0, epoch)
        assert sorted(i for s in steps for m in s for i in m) == list(range(50))
    assert train.steps_of(rows, 64, 256, 0, 0) != train.steps_of(rows, 64, 256, 0, 1)
    assert train.steps_of(rows, 64, 256, 0, 0) == train.steps_of(rows, 64, 256, 0, 0)


def test_learning_rate_by_hand():
    """10 steps, 20% warm-up: 1/2, 1, then linear from 1 (x = 0) by eighths; the floor adds a thousandth."""
    how = train.Optim(1.0, "linear", warmup=0.2)
    rates = [train.lr_at(i, 10, how) for i in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == pytest.approx(1.001)
    assert rates[6] == pytest.approx(0.501)
    assert train.lr_at(9, 10, train.Optim(1.0, "cosine")) == pytest.approx(0.5 * (1 + -0.9510565) + 0.001, abs=1e-6)
    assert {train.lr_at(i, 10, train.Optim(1.0, "constant")) for i in range(10)} == {1.0}


def test_early_stop_ends_on_the_best_weights(folder, tmp_path):
    """A learning rate far too high makes the held-out loss worse from some step on: the best weights are kept."""
    docs = documents()
    model, cursor = work(folder, tmp_path, docs, steps=40, lr=0.3, evaluate=True, eval_every=1, patience=3)
    assert cursor.stopped and cursor.step < 40
    assert held_out(model, docs, MICRO, 0)["loss"] == pytest.approx(cursor.best, abs=1e-5)
    first, kept = cursor.ends("held_loss")
    assert (first["step"], kept["step"]) == (0, cursor.kept) and cursor.kept < cursor.step
    assert kept["held_loss"] == cursor.best != cursor.log[-1]["held_loss"]


def test_nan_names_the_rows(folder, tmp_path):
    with pytest.raises(UserError, match=r"not finite.*row-\d"):
        work(folder, tmp_path, documents(), steps=30, lr=1e12)


def kept(folder, out, result, precision):
    """A training whose weights are kept as they are: a saved model would be rounded."""
    model, _ = work(folder, out, documents(), steps=14, precision=precision, evaluate=True, eval_every=3)
    torch.save([p.detach().clone() for p in model.parameters()], result)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_and_resumed_is_bit_equal(folder, tmp_path, precision):
    """SIGKILL in the middle, twice, then run to the end: the same weights and log as the run that nobody killed."""
    assert outcome(kept, folder, tmp_path / "whole", tmp_path / "whole.pt", precision) == 0
    cut = (kept, folder, tmp_path / "cut", tmp_path / "cut.pt", precision)
    shots = [outcome(*cut, kill_at=("step", steps) if steps else None) for steps in (4, 3, 0)]
    assert shots == [-signal.SIGKILL, -signal.SIGKILL, 0]
    whole, cut = torch.load(tmp_path / "whole.pt"), torch.load(tmp_path / "cut.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))
    logs = [[json.loads(x) for x in (tmp_path / d / "log.jsonl").read_text().splitlines()] for d in ("whole", "cut")]
    assert logs[0] == logs[1]
