"""Several processes for tests: a recipe of tiny stages, started by N processes that talk over gloo on this machine."""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import tiny

from posttrain.rows import Demo, Message, Pair, Prompt, write_jsonl

WORDS = ("cat", "dog", "tree", "stone", "river", "cloud", "moon", "fish")


def say(who, text):
    return Message(role=who, content=text)


def words(rng, most=6):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, most)))


def rows(folder):
    """Demos, pairs and prompts of uneven length."""
    rng = random.Random(0)
    demos = [Demo(id=f"d{n}", messages=(say("user", words(rng)), say("assistant", words(rng)))) for n in range(60)]
    pairs = [
        Pair(
            id=f"p{n}", prompt=(say("user", f"Say {words(rng)}."),), chosen=say("assistant", f"please {words(rng, 3)}"),
            rejected=say("assistant", f"no {words(rng, 3)}"),
        )
        for n in range(60)
    ]  # fmt: skip
    prompts = [Prompt(id=f"q{n}", messages=(say("user", words(rng, 3)),), meta={"n": n}) for n in range(24)]
    for name, found in (("demos", demos), ("pairs", pairs), ("prompts", prompts)):
        write_jsonl(folder / f"{name}.jsonl", found)


HEAD = """
runtime: {{device: cpu, precision: {precision}, compile: "off"}}
stages:
  base: {{type: base_model, model: {home}/model, template: chatml}}
  demos: {{type: demos, path: {home}/demos.jsonl, holdout: 0.2, dedupe: "off"}}
  votes: {{type: pairs, path: {home}/pairs.jsonl, holdout: 0.2, dedupe: "off"}}
  asks: {{type: prompts, path: {home}/prompts.jsonl, holdout: 0.2, dedupe: "off"}}
"""
HOW = "lr: 0.003, batch_tokens: 768, micro_tokens: 256, max_tokens: 250, eval_every: 2"
STAGES = {
    "sft": f"{{type: sft, policy: base, data: demos, {HOW}, epochs: 2}}",
    "lora": f"{{type: sft, policy: base, data: demos, {HOW}, lora: {{rank: 4}}, steps: 4}}",
    "dpo": f"{{type: preference, policy: base, pairs: votes, {HOW}, watch: 3, steps: 5}}",
    "kto": f"{{type: preference, policy: base, pairs: votes, loss: {{type: kto}}, {HOW}, watch: 0, steps: 3}}",
    "judge": f"{{type: reward, policy: base, pairs: votes, {HOW}, members: 2, steps: 5}}",
    "grpo": """
    type: rl
    policy: base
    prompts: asks
    algorithm: {type: grpo, kl: {coef: 0.02}}
    rewards: {early: {type: regex, pattern: "^[a-m ]"}}
    sampling: {max_new: 6}
    steps: 3
    prompts_per_step: 5
    group: 4
    micro_tokens: 160
    lr: 0.001
    minibatches: 2
    eval_every: 2""",
    "ppo": """
    type: rl
    policy: base
    prompts: asks
    reward_models: judge
    algorithm: {type: ppo, critic: {separate: true}}
    rewards: {liked: {type: reward_model}}
    sampling: {max_new: 6}
    steps: 2
    prompts_per_step: 3
    group: 4
    micro_tokens: 160
    lr: 0.001""",
}


def recipe(home, *names, precision="fp32", **more):
    """The path of a recipe with these stages; more: other stages as YAML."""
    if not (home / "model").exists():
        tiny.folder(home / "model", "smollm")
        rows(home)
    stages = {n: STAGES[n] for n in names} | more
    text = HEAD.format(home=home, precision=precision) + "".join(f"  {n}: {s.lstrip() if s.startswith('{') else s}\n" for n, s in stages.items())
    path = home / f"{'-'.join(stages)}-{precision}.yaml"
    path.write_text(text)
    return path


def start(world, *args, env=None, code=None):
    """`world` processes of `python -m posttrain args` (or of `code`)."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    what = ["-c", code] if code else ["-m", "posttrain"]
    cache = tempfile.mkdtemp(prefix="posttrain-cache-")
    common = os.environ | {"OMP_NUM_THREADS": "1", "POSTTRAIN_CACHE": cache, **(env or {})}
    if world > 1:
        common |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *what, *map(str, args)], env=common | {"RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for r in range(world)
    ]  # fmt: skip


def wait(processes, seconds=120):
    """(exit code, output) of each."""
    return [(p.wait() if p.poll() is not None else None, out) for p in processes for out in [p.communicate(timeout=seconds)[0]]]


def run(world, path, runs, *args):
    done = [(p.communicate(timeout=150)[0], p.returncode) for p in start(world, "run", path, *args, "--runs", runs)]
    assert all(code == 0 for _, code in done), "\n".join(text for text, _ in done)
    return done


def logs(runs):
    """Stage -> log entries."""
    return {
        p.parent.name.rpartition("-")[0]: [json.loads(x) for x in p.read_text().splitlines()]
        for p in Path(runs).glob("*/*/log.jsonl")
    }
