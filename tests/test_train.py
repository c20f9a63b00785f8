"""The loop: exact accumulation, schedules, resume after SIGKILL with the same bytes, early stop, NaN said clearly."""

import json
import math
import signal

import pytest
import tiny
import torch
from killed import outcome

from posttrain import adamw, finite, packing, train
from posttrain.errors import UserError
from posttrain.loading import load_model
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


def work(
    folder, out, docs, *, micro=MICRO, batch=256, steps=6, precision="fp32", evaluate=False, moments="fp32",
    stop_after=None, **how,
):  # fmt: skip
    """(model, cursor) of a short training. stop_after: so many losses, then it breaks off."""
    model, called = load_model(folder, Runtime(precision=precision), train=True), []
    rows = rows_of(docs)

    def loss(indices, total):
        called.append(indices)
        if stop_after is not None and len(called) > stop_after:
            raise InterruptedError
        return token_loss(model, packing.build([docs[i] for i in indices], pad_to=micro), "nll", total)

    steps, batches = train.schedule(rows, micro_tokens=micro, batch_tokens=batch, epochs=1, steps=steps, seed=3)
    out.mkdir(exist_ok=True)
    cursor = train.train(
        model, rows, loss, optim=adamw.Optim(how.pop("lr", 1e-2), clip=1.0, warmup=0.2, moments=moments), steps=steps,
        batches=batches, out=out, progress=Progress("silent"), **how,
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
        master = adamw.Master(model.parameters(), adamw.Optim(1e-3))
        rows = rows_of(docs)
        total = sum(rows.counts)
        for indices in packing.plan(rows.sizes, micro, seed=0):
            pack = packing.build([docs[i] for i in indices], pad_to=micro)
            token_loss(model, pack, "nll", total)[0].backward()
            master.collect()
        gradients.append([g.clone() for g in master.grads])
    for one, many in zip(*gradients):
        torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-6)


def test_moments_of_eight_bits_learn_alike_and_go_on_from_a_checkpoint(folder, tmp_path, monkeypatch):
    """2 bytes a weight and the scales of blocks; the same curve nearly; broken off and resumed to the same bits."""
    pytest.importorskip("bitsandbytes")
    docs = documents()
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)
    _, full = work(folder, tmp_path / "full", docs, steps=8)
    whole, small = work(folder, tmp_path / "small", docs, steps=8, moments="int8")
    pairs = [(a["loss"], b["loss"]) for a, b in zip(full.log, small.log)]
    assert any(a != b for a, b in pairs) and all(abs(a - b) < 0.1 for a, b in pairs)
    assert pairs[-1][1] < pairs[0][1] - 0.3
    with pytest.raises(InterruptedError):
        work(folder, tmp_path / "cut", docs, steps=8, moments="int8", stop_after=9)
    with pytest.raises(UserError, match="moments of int8, and"):
        work(folder, tmp_path / "cut", docs, steps=8)
    resumed, again = work(folder, tmp_path / "cut", docs, steps=8, moments="int8")
    assert [e["loss"] for e in again.log] == [e["loss"] for e in small.log]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    weight = torch.nn.Parameter(torch.randn(64, 128))
    master = adamw.Master([weight], adamw.Optim(1e-3, moments="int8"))
    weight.sum().backward()
    master.step(1e-3, 0.0)
    (state,) = master.adamw.state.values()
    own = sum(x.numel() * x.element_size() for k, x in state.items() if torch.is_tensor(x) and "qmap" not in k)
    assert own < 2.1 * weight.numel()


def test_moments_of_eight_bits_without_the_package_or_in_several_processes(monkeypatch):
    weight = torch.nn.Parameter(torch.zeros(4))
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="bitsandbytes"):
        adamw.Master([weight], adamw.Optim(1e-3, moments="int8"))
    monkeypatch.setattr(adamw.parallel, "world", lambda: 2)
    with pytest.raises(UserError, match="several processes"):
        adamw.Master([weight], adamw.Optim(1e-3, moments="int8"))


def test_every_row_is_seen_once_an_epoch():
    rows = rows_of(documents(50))
    for epoch in (0, 1):
        steps = train.steps_of(rows, 64, 256, 0, epoch)
        assert sorted(i for s in steps for m in s for i in m) == list(range(50))
    assert train.steps_of(rows, 64, 256, 0, 0) != train.steps_of(rows, 64, 256, 0, 1)
    assert train.steps_of(rows, 64, 256, 0, 0) == train.steps_of(rows, 64, 256, 0, 0)


def test_learning_rate_by_hand():
    """10 steps, 20% warm-up: 1/2, 1, then linear from 1 (x = 0) by eighths; the floor adds a thousandth."""
    how = adamw.Optim(1.0, "linear", warmup=0.2)
    rates = [adamw.lr_at(i, 10, how) for i in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == pytest.approx(1.001)
    assert rates[6] == pytest.approx(0.501)
    assert adamw.lr_at(9, 10, adamw.Optim(1.0, "cosine")) == pytest.approx(0.5 * (1 + -0.9510565) + 0.001, abs=1e-6)
    assert {adamw.lr_at(i, 10, adamw.Optim(1.0, "constant")) for i in range(10)} == {1.0}


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


# ---- steps that are not finite ---------------------------------------------------------------------------------------


class Poisoned:
    """Losses in which some rows weigh so much that the loss (infinity) or its gradient (1e38) is not finite."""

    def __init__(self, docs, weights, model):
        self.docs, self.weights, self.model, self.calls = docs, weights, model, 0

    def __call__(self, indices, total):
        self.calls += 1
        pack = packing.build([self.docs[i] for i in indices], pad_to=MICRO)
        logp_N = self.model.token_logps(pack)
        weight_N = torch.tensor([self.weights.get(i, 1.0) for i in indices])[pack.branch_N]
        return -(logp_N * (weight_N / total)).sum(), {"loss": (-float(logp_N.detach().sum()), len(logp_N))}


def poisoned(folder, out, weights, *, steps=4, not_finite="skip", stop_after=None, said=None):
    """(model, cursor) of a training with poisoned rows; stop_after: so many losses, then it breaks off."""
    docs = documents(48)
    model, rows = load_model(folder, Runtime(precision="fp32"), train=True), rows_of(docs)
    poison = Poisoned(docs, weights, model)

    def loss(indices, total):
        if stop_after is not None and poison.calls >= stop_after:
            raise InterruptedError
        return poison(indices, total)

    progress = Progress("silent")
    progress.say = (said if said is not None else []).append
    steps, batches = train.schedule(rows, micro_tokens=MICRO, batch_tokens=256, epochs=1, steps=steps, seed=3)
    out.mkdir(exist_ok=True)
    cursor = train.train(
        model, rows, loss, optim=adamw.Optim(1e-2, clip=1.0, warmup=0.2), steps=steps, batches=batches, out=out,
        progress=progress, not_finite=not_finite,
    )  # fmt: skip
    return model, cursor


def step_with(row):
    """The number of the first step that row is in."""
    rows = rows_of(documents(48))
    first = train.steps_of(rows, MICRO, 256, 3, 0)
    return next(n for n, micro in enumerate(first, 1) if any(row in m for m in micro))


@pytest.mark.parametrize(("weight", "what"), [(math.inf, "loss"), (1e38, "gradient")])
def test_a_row_that_is_not_finite_stops_training_and_is_named(folder, tmp_path, weight, what):
    """Of all rows of its step, that one alone."""
    with pytest.raises(UserError, match=rf"the {what} is not finite \(NaN or infinite\); rows of this step: row-7\n"):
        poisoned(folder, tmp_path, {7: weight}, not_finite="stop")


@pytest.mark.parametrize(("weight", "what"), [(math.inf, "loss"), (1e38, "gradient")])
def test_a_step_that_is_left_out_is_told_logged_and_counted(folder, tmp_path, weight, what):
    """With the one row that did it; the learning rate goes on."""
    at, said = step_with(7), []
    _, cursor = poisoned(folder, tmp_path, {7: weight}, said=said)
    (entry,) = [e for e in cursor.log if "not_finite" in e]
    assert entry["step"] == at and entry["not_finite"] == what and entry["rows"] == ["row-7"] and "loss" not in entry
    assert said == [f"  step {at} is left out: {what} not finite; rows: row-7"]
    assert [e["lr"] for e in cursor.log] == [adamw.lr_at(n, 4, adamw.Optim(1e-2, warmup=0.2)) for n in range(4)]
    assert cursor.step == 4 and finite.left_out(cursor.log) == {"skipped_steps": 1.0}


def test_what_is_learned_around_a_step_that_is_left_out(folder, tmp_path):
    """The other steps, taken by hand with their own learning rates: the same weights to the last bit, so the moments
    and AdamW's own count have stood still."""
    docs, how = documents(48), adamw.Optim(1e-2, clip=1.0, warmup=0.2)
    found, _ = poisoned(folder, tmp_path, {7: math.inf})
    model = load_model(folder, Runtime(precision="fp32"), train=True)
    rows, master, poison = rows_of(docs), adamw.Master(list(model.parameters()), how), Poisoned(docs, {}, model)
    _, batches = train.schedule(rows, micro_tokens=MICRO, batch_tokens=256, epochs=1, steps=4, seed=3)
    for n in range(4):
        micro = next(batches)
        if any(7 in indices for indices in micro):
            continue
        for indices in micro:
            poison(indices, sum(rows.counts[i] for m in micro for i in m))[0].backward()
            master.collect()
        master.step(adamw.lr_at(n, 4, how), how.clip)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_many_guilty_rows_are_found_and_a_few_of_them_named(folder, tmp_path):
    _, cursor = poisoned(folder, tmp_path, dict.fromkeys(range(48), math.nan), steps=4)
    assert all(len(set(e["rows"])) == 6 and e["rows"][-1] == "..." for e in cursor.log)


def test_too_many_in_a_row_end_training_all_the_same(folder, tmp_path):
    said = []
    with pytest.raises(UserError, match=rf"{finite.IN_A_ROW} steps one after the other were left out: the loss is not"):
        poisoned(folder, tmp_path, dict.fromkeys(range(48), math.nan), steps=20, said=said)
    assert len(said) == finite.IN_A_ROW - 1


@pytest.mark.parametrize("losses", [2, 7, 14])
def test_resumed_over_a_step_that_is_left_out_it_is_bit_equal(folder, tmp_path, monkeypatch, losses):
    """Broken off before, in (while the guilty row is looked for) and behind it; then on to the end."""
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)
    whole, one = poisoned(folder, tmp_path / "whole", {7: math.inf})
    with pytest.raises(InterruptedError):
        poisoned(folder, tmp_path / "cut", {7: math.inf}, stop_after=losses)
    cut, other = poisoned(folder, tmp_path / "cut", {7: math.inf})
    assert one.log == other.log and sum("not_finite" in e for e in one.log) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_rows_that_are_guilty_only_together():
    """Halving finds single rows; where a group is bad and neither half is, all of it is named."""
    assert list(finite.guilty(range(9), lambda rows: bool({2, 7} & set(rows)))) == [2, 7]
    assert list(finite.guilty([4, 5, 6], lambda rows: len(rows) == 3)) == [4, 5, 6]
    assert list(finite.guilty([4, 5, 6], lambda rows: False)) == []
    assert finite.entry("gradient", [[0, 1], [2]], "abc", lambda rows: False)["rows"] == ["a", "b", "c"]


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
