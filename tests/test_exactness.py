"""Steps that are not finite through the real command, in several processes and in RL; the switch for determinism.

The loop's own half of the first is in test_train.py. Left out on purpose: accelerators, where the switch matters.
"""

import json
import os

import pytest
import ranks
import test_learner as learners
import tiny
import torch

from posttrain import adamw, cli, train
from posttrain.loading import choose, load_model
from posttrain.pipeline import Record, Runtime
from posttrain.progress import Progress
from posttrain.report import collect
from posttrain.report.lineage import Node
from posttrain.rl.critic import Trunk, separate
from posttrain.rows import Pair, read_jsonl, write_jsonl

FP32 = Runtime(precision="fp32")
HOW = "lr: 0.003, batch_tokens: 512, micro_tokens: 256, max_tokens: 250, steps: 4"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("exact")
    ranks.recipe(home)  # writes the model and the rows
    return home


# ---- steps that are not finite ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poisoned(home):
    """A recipe whose pair p5 has a margin that fp32 does not hold: with odpo its loss is infinite."""
    rows = [
        p.model_copy(update={"margin": 1e39 if p.id == "p5" else 0.5}) for p in read_jsonl(home / "pairs.jsonl", Pair)
    ]  # fmt: skip
    write_jsonl(home / "margins.jsonl", rows[:32])
    data = f'{{type: pairs, path: {home}/margins.jsonl, holdout: 0.0, dedupe: "off"}}'
    odpo = f"{{type: preference, policy: base, pairs: margins, loss: {{type: odpo}}, watch: 0, {HOW}}}"
    return ranks.recipe(home, margins=data, odpo=odpo)


def odpo(runs):
    (folder,) = runs.glob("*/odpo-??????????")
    return folder, [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_out_what_is_not_finite_alike_in_one_process_and_in_two(home, poisoned, tmp_path):
    """Stopped unless it may skip; then the same rows, the same curve, and a record and a page that say so."""
    process = ranks.start(1, lambda: cli.app(args=["run", str(poisoned), "--runs", str(tmp_path)]), tmp_path)[0]
    process.join(120)
    said = (tmp_path / "said-0.txt").read_text()
    assert process.exitcode == 2 and "the loss is not finite (NaN or infinite); rows of this step: p5\n" in said, said
    assert "runtime.not_finite=skip" in said and "Traceback" not in said
    found = {}
    for world in (1, 2):
        said = ranks.run(world, poisoned, tmp_path / str(world), "runtime.not_finite=skip")[0]
        folder, found[world] = odpo(tmp_path / str(world))
        assert "is left out: loss not finite; rows: p5" in said
        assert Record.read(folder).metrics["skipped_steps"] == len([e for e in found[world] if "not_finite" in e]) > 0
        (training,) = [t for t in collect.trainings([Node(folder, Record.read(folder))])]
        assert "was left out, its loss was not finite: p5" in collect.left_out(training)[0]
    for a, b in zip(found[1], found[2], strict=True):
        assert a.keys() == b.keys() and a.get("rows") == b.get("rows")
        assert all(b[k] == pytest.approx(a[k], rel=2e-5, abs=2e-5) for k in a if k not in ("rows", "not_finite"))


@pytest.mark.parametrize("kind", ["trunk", "separate"])
@pytest.mark.parametrize("what", ["rewards", "returns"])
def test_policy_and_critic_leave_a_rollout_out_together(home, tmp_path, kind, what):
    """An infinite reward; or returns whose squares overflow, which the critic alone minds. Neither model moves in that
    step; both move in the next."""
    folder = tiny.folder(tmp_path / "model")
    model = load_model(folder, FP32, train=True)
    critic = Trunk(model) if kind == "trunk" else separate(folder, FP32, lr=1e-3, clip=1.0)
    good, bad = (learners.made_groups(model, seed=seed) for seed in (0, 1))
    if what == "rewards":
        bad[1].reward = [float("inf")] * len(bad[1].reward)
    knobs = {
        "type": "ppo",
        "kl": {"where": "none"},
        "credit": {"whiten": False},
        "critic": {"separate": kind != "trunk"},
    }
    work = learners.learner(model, good, knobs, critic=critic)
    work.collect = lambda number: (bad if number == 0 else good, {})
    weights = [[p.detach().clone() for p in (*model.parameters(), *critic.master.weights)]]
    after = work.after

    def watched(entry):
        after(entry)
        weights.append([p.detach().clone() for p in (*model.parameters(), *critic.master.weights)])

    def batches():
        for number, micro in enumerate(work.batches()):
            if what == "returns" and number == 0:
                work.batch.columns["return"][1][:] = 1e38
            yield micro

    work.after = watched
    cursor = train.train(
        model, work.rows, work.loss, optim=adamw.Optim(1e-2, "constant"), steps=2, batches=batches(), out=tmp_path,
        progress=Progress("silent"), live=work, not_finite="skip",
    )  # fmt: skip
    left, learned = cursor.log
    assert left["rows"] == ["p1"] and "critic_norm" not in left and "rollout" in left
    assert "not_finite" not in learned and learned["critic_norm"] > 0
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    moved = [not torch.equal(a, b) for a, b in zip(weights[1], weights[2], strict=True)]
    assert any(moved[: len(model.parameters())]) and any(moved[len(model.parameters()) :])


# ---- the switch for determinism --------------------------------------------------------------------------------------


@pytest.fixture
def restored(monkeypatch):
    """What the switch turns is turned back."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before[0])
    cudnn.deterministic, cudnn.benchmark = before[1:]
    torch.utils.deterministic.fill_uninitialized_memory = fill


def test_the_switch_takes_effect_and_what_is_not_deterministic_is_one_message(restored, capsys):
    """Off: nothing is touched. On: PyTorch refuses an operator that may differ from time to time, and we say which."""

    def put():
        torch.zeros(4).put_(torch.tensor([0, 1]), torch.tensor([1.0, 2.0]))

    choose(FP32)
    assert not torch.are_deterministic_algorithms_enabled() and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert cli.guarded(put) == 0
    said = choose(Runtime(precision="fp32", device="cpu", deterministic=True))[2]
    assert said == "fp32 on cpu, deterministic"
    assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert cli.guarded(put) == 2
    told = capsys.readouterr().err
    assert "put_ gives other bits every time on this device" in told and "runtime.deterministic=false" in told


@pytest.mark.parametrize(
    "stages", [("sft",), pytest.param(("lora", "dpo", "kto", "judge", "grpo", "ppo"), marks=pytest.mark.slow)], ids=len
)
def test_every_stage_runs_with_it_and_a_cpu_gives_the_same_bytes_without(home, tmp_path, stages):
    path = ranks.recipe(home, *stages)
    weights = []
    for switch in ("true", "false"):
        said = ranks.run(1, path, tmp_path / switch, f"runtime.deterministic={switch}")[0]
        assert ("fp32 on cpu, deterministic" in said) == (switch == "true")
        weights.append([next(tmp_path.glob(f"{switch}/*/{s}-*/model.safetensors")).read_bytes() for s in stages])
    assert weights[0] == weights[1]
