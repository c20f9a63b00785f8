"""Several processes for tests: a recipe of tiny stages, and N processes that talk over gloo on this machine.

Left out on purpose: torchrun, which only starts them (one slow test uses it).
"""

import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
from pathlib import Path

import tiny

from posttrain import cli
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
    text = HEAD.format(home=home, precision=precision) + "".join(f"  {n}: {s}\n" for n, s in stages.items())
    path = home / f"{'-'.join(stages)}-{precision}.yaml"
    path.write_text(text)
    return path


def start(world, work, folder):
    """`work()` in forked processes, which saves them the imports; what rank r says goes to folder/said-r.txt."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {"POSTTRAIN_CACHE": tempfile.mkdtemp(prefix="posttrain-cache-")}
    if world > 1:
        env |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def rank(r):
        os.environ |= env | {"RANK": str(r), "LOCAL_RANK": str(r)}
        with (folder / f"said-{r}.txt").open("w", buffering=1) as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = said, said
            os._exit(cli.guarded(work))

    processes = [multiprocessing.get_context("fork").Process(target=rank, args=(r,)) for r in range(world)]
    for p in processes:
        p.start()
    return processes


def run(world, path, runs, *args):
    """`posttrain run` by `world` processes; what rank 0 said. All of them must end well."""
    runs.mkdir(parents=True, exist_ok=True)
    command = ["run", str(path), *args, "--runs", str(runs)]
    processes = start(world, lambda: cli.app(args=command, standalone_mode=False), runs)
    for p in processes:
        p.join(600)  # of seconds on a busy machine
    said = [(runs / f"said-{r}.txt").read_text() for r in range(world)]
    assert [p.exitcode for p in processes] == [0] * world, "\n".join(said)
    return said


def logs(runs):
    """Stage -> log entries."""
    return {
        p.parent.name.rpartition("-")[0]: [json.loads(x) for x in p.read_text().splitlines()]
        for p in Path(runs).glob("*/*/log.jsonl")
    }
