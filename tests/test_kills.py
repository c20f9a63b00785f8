"""SIGKILL at random moments, every kind of training stage: the run that goes on ends with the bytes of the undisturbed.

The real command in a process of its own, forked so that it need not import everything again; a checkpoint after every
step. Moments are drawn over the time that the stage took undisturbed, so they lie in loading, sampling, steps, writing
checkpoints and saving. A run that ends before its moment is compared, and the next one begins anew. Three kills for a
few kinds here; twenty for each kind with `-m slow`. Left out on purpose: several processes (test_parallel.py),
imports, which leave nothing behind.
"""

import os
import random
import shutil
import signal
from collections import Counter

import pytest
import ranks

from posttrain import cli, train
from posttrain.pipeline import Record

HOW = "lr: 0.003, batch_tokens: 512, micro_tokens: 256, max_tokens: 250, eval_every: 2"
RL = """
    type: rl
    policy: base
    prompts: asks
    rewards: {{early: {{type: regex, pattern: "^[a-m ]"}}}}
    gold: {{type: length, words: 3}}
    sampling: {{max_new: 4}}
    steps: 3
    prompts_per_step: 3
    group: 3
    micro_tokens: 160
    lr: 0.001
    minibatches: 2
    eval_every: 2
    algorithm: {algorithm}"""
STAGES = {
    "sft": f"{{type: sft, policy: base, data: demos, {HOW}, steps: 6, patience: 2}}",
    "lora": f"{{type: sft, policy: base, data: demos, {HOW}, steps: 5, lora: {{rank: 4}}}}",
    "dpo": f"{{type: preference, policy: base, pairs: votes, {HOW}, watch: 2, steps: 4}}",
    "aot": f"{{type: preference, policy: base, pairs: votes, loss: {{type: aot}}, {HOW}, watch: 0, steps: 4}}",
    "kto": f"{{type: preference, policy: base, pairs: votes, loss: {{type: kto}}, {HOW}, watch: 0, steps: 4}}",
    "judge": f"{{type: reward, policy: base, pairs: votes, {HOW}, members: 2, steps: 5}}",
    "grpo": RL.format(algorithm="{type: grpo, kl: {coef: 0.02, target: 0.5}}"),
    "ppo": RL.format(algorithm="{type: ppo}")
    + "\n    epochs: 2\n    shaping: {normalise: true}\n    rollouts: {curriculum: 0.5, max_staleness: 1}",
    # answers long enough that some end by themselves, or there would be no pairs
    "online": "{type: online_preference, policy: base, prompts: HOME/items.jsonl, rounds: 2, per_round: 12, n: 8,"
    " max_new: 40, lr: 0.003, epochs: 2, batch_tokens: 256, micro_tokens: 256, max_tokens: 250, holdout: 0.2}",
}
PATIENCE = 600  # seconds for a run that nobody kills, on a busy machine
LOADING = 0.3  # seconds before the stage begins: reading the recipe, finding what is done
WEIGHTS, LOG = "model.safetensors", "log.jsonl"
ITEM = '{"id": "i%d", "cluster": "c", "messages": [{"role": "user", "content": "Say %d."}], "constraints": [%s]}\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("kills")
    rule = '{"kind": "no_commas"}'
    (home / "items.jsonl").write_text("".join(ITEM % (n, n, rule) for n in range(20)))
    return home


def started(path, runs):
    """The command, at work: it checkpoints after each step."""

    def work():
        train.CHECKPOINT_SECONDS = -1.0
        return cli.app(args=["run", str(path), "--runs", str(runs)], standalone_mode=False)

    runs.mkdir(exist_ok=True)
    return ranks.start(1, work, runs)[0]


def left(runs, stage):
    """Where a kill has hit: what of the stage was on the disk."""
    parts = list(runs.glob(f"*/{stage}-*.part"))
    if not parts:
        return "saved" if list(runs.glob(f"*/{stage}-??????????/record.json")) else "before it"
    names = {p.name for p in parts[0].rglob("*")}
    if "checkpoint.pt.part" in names:
        return "writing a checkpoint"
    return "saving" if WEIGHTS in names else "training" if "checkpoint.pt" in names else "loading"


def outcome(runs, stage):
    (folder,) = runs.glob(f"*/{stage}-??????????")
    return [(folder / name).read_bytes() for name in (WEIGHTS, LOG)]


def killed_again_and_again(home, tmp_path, stage, kills):
    """Where the kills hit. Asserts that every run which ended is the undisturbed one, byte for byte.

    A machine that has become slower since the undisturbed run would be hit in one place only: the span of moments grows
    by a third when a place is hit again, and shrinks when a run came to its end.
    """
    path = ranks.recipe(home, **{stage: STAGES[stage].replace("HOME", str(home))})
    made, whole = home / f"made-{stage}", home / f"whole-{stage}"
    if not made.exists():
        process = started(path, whole)
        process.join(PATIENCE)
        assert process.exitcode == 0, (whole / "said-0.txt").read_text()
        shutil.copytree(whole, made)  # data and base model, which every run starts with
        shutil.rmtree(next(made.glob(f"*/{stage}-*")))
    seconds = Record.read(next(whole.glob(f"*/{stage}-*"))).seconds + LOADING
    wanted = outcome(whole, stage)
    rng, hit, ended, runs = random.Random(f"{stage} {kills}"), Counter(), 0, tmp_path / "runs"
    place = ""
    shutil.copytree(made, runs)
    while hit.total() < kills or not ended:
        process = started(path, runs)
        process.join(rng.uniform(0, seconds) if hit.total() < kills else PATIENCE)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            before, place = place, left(runs, stage)
            hit[place] += 1
            seconds *= 4 / 3 if place == before else 1
            continue
        assert process.exitcode == 0, (runs / "said-0.txt").read_text()
        assert outcome(runs, stage) == wanted, f"{stage}, killed {dict(hit)}"
        assert not list(runs.glob("*/*.part"))
        ended += 1
        seconds *= 3 / 4
        shutil.rmtree(runs)
        shutil.copytree(made, runs)
    return hit


@pytest.mark.parametrize("stage", ["sft", "dpo", "judge", "grpo"])  # a training stage of each kind
def test_three_kills(home, tmp_path, stage):
    killed_again_and_again(home, tmp_path, stage, 3)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_twenty_kills(home, tmp_path, stage):
    """Not all in one place: twenty moments, drawn over a whole run, hit it in three of its parts at least."""
    hit = killed_again_and_again(home, tmp_path, stage, 20)
    print(f"{stage}: {dict(hit)}")
    assert len(hit) >= 3, hit
