"""Simulated people vote over HTTP, a model learns from them: does it learn what they like, and can it be traced?

    python benchmarks/simulated_votes.py --out /tmp/votes                      # trains a short SFT first, 8 minutes
    python benchmarks/simulated_votes.py --out /tmp/votes --model runs/assistant/sft-...

Pairs of answers are sampled from the SFT model. `posttrain label` serves them; annotators with a hidden rule and 15%
noise (one of them with 45%) sign up by invitation and vote through the REST API. The recipe freezes the votes, filters
people, trains DPO. Both models then answer prompts nobody voted on, and the hidden rule scores them, paired by prompt.
The rule likes answers that speak to the reader, end in a full stop and are about 20 words long, so that neither longer
nor shorter is better by itself. Left out on purpose: thinking time, people who learn or tire.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from posttrain import stats
from posttrain.formats import load
from posttrain.locate import model_folder
from posttrain.pipeline import Runtime
from posttrain.rows import Prompt

SLUG, PASSWORD, NOISE, CARELESS = "taste", "correct horse battery", 0.15, 0.45
OPEN = ("advice", "everyday", "explain", "howto", "lists", "small_talk", "definitions", "compare", "steps", "dont_know")
SIZES = {"demos": 1500, "prompts": 600, "held": 200, "people": 8, "labels": 3, "gold": 40, "samples": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="", help="an SFT model; trained here when not given")
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    started, clock = time.monotonic(), {}
    for name, work in (("sft", start), ("sample", sample_pairs), ("vote", vote), ("train", train), ("evaluate", judge)):
        begun = time.monotonic()
        work(given)
        clock[name] = round(time.monotonic() - begun)
        print(f"--- {name}: {clock[name]} s", flush=True)
    chain(given)
    print(json.dumps({"seconds": clock, "all": round(time.monotonic() - started)}))


# ---- the hidden rule -------------------------------------------------------------------------------------------------


def score(text: str) -> float:
    """What the simulated people like; no stage of the pipeline knows of it."""
    ends = text.rstrip().endswith((".", "!", "?"))
    return 1.5 * speaks(text) + 0.5 * ends - min(1.5, abs(len(text.split()) - 20) / 20)


def speaks(text: str) -> bool:
    return bool(re.search(r"\b(you|your|yours|yourself)\b", text.lower()))


def opinion(answers: Sequence[str], noise: float, draw: random.Random) -> dict[str, Any]:
    """A vote on two answers as shown: the rule's choice and how sure, turned round with a probability of `noise`."""
    gap = score(answers[0]) - score(answers[1])
    if abs(gap) < 0.05:
        return {"choice": "tie", "seconds": 6.0}
    choice = "a" if (gap > 0) != (draw.random() < noise) else "b"
    strength = 4 if abs(gap) > 1.5 else 3 if abs(gap) > 0.7 else 2 if abs(gap) > 0.25 else 1
    return {"choice": choice, "strength": strength, "seconds": round(draw.uniform(4, 20), 1)}


# ---- the model that people see ---------------------------------------------------------------------------------------


def stages(given: argparse.Namespace) -> dict[str, Any]:
    """Up to the SFT model; with --model there is nothing to train."""
    if given.model:
        return {"sft": {"type": "base_model", "model": str(model_folder(given.model).resolve())}}
    training = {"lr": 7e-4, "batch_tokens": 768, "micro_tokens": 768, "max_tokens": 768}
    return {
        "base": {"type": "base_model", "model": "bundled"},
        "demos": {"type": "demos", "path": "bundled:demos", "holdout": 0.03, "dedupe": "exact", "limit": given.demos},
        "sft": {"type": "sft", "policy": "base", "data": "demos"} | training,
    }


def run(given: argparse.Namespace, recipe: dict[str, Any]) -> None:
    path = given.out / "taste.yaml"
    path.write_text(yaml.safe_dump({"stages": recipe}, sort_keys=False))
    subprocess.run(posttrain("run", path, "--runs", given.out / "runs"), check=True)


def posttrain(*words: object) -> list[str]:
    return [sys.executable, "-m", "posttrain", *map(str, words)]


def start(given: argparse.Namespace) -> None:
    run(given, stages(given))


def folder(given: argparse.Namespace, stage: str) -> Path:
    """The newest artefact of a stage."""
    return max((given.out / "runs" / "taste").glob(f"{stage}-??????????"), key=lambda p: p.stat().st_mtime)


def prompts(given: argparse.Namespace) -> tuple[list[Prompt], list[Prompt]]:
    """(to vote on, held out): open questions of one turn, no question in both."""
    rows: list[Prompt] = load("bundled:demos", "prompts").rows
    fit = {r.messages[-1].content: r for r in rows if len(r.messages) == 1 and r.category in OPEN}
    chosen = [fit[k] for k in sorted(fit)]
    random.Random(0).shuffle(chosen)
    return chosen[given.held :][: given.prompts], chosen[: given.held]


def answers(model: Path, asked: Sequence[Prompt], n: int, seed: int) -> list[list[str]]:
    from posttrain.loading import load_model
    from posttrain.render import load_chat
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    chat = load_chat(model)
    sampler = Local(load_model(model, Runtime(), train=False), chat)
    how = Sampling(max_new=64, temperature=0.9, seed=seed)
    groups = asyncio.run(sampler.sample([chat.prompt(p.messages) for p in asked], n, how))
    return [[s.text.strip() for s in group] for group in groups]


def sample_pairs(given: argparse.Namespace) -> None:
    """Two answers to each prompt as importable items; some of the clearest become gold, with their right answer."""
    asked, _ = prompts(given)
    items: list[dict[str, Any]] = []
    for n, (prompt, two) in enumerate(zip(asked, answers(folder(given, "sft"), asked, 2, seed=1))):
        if all(two) and two[0] != two[1]:
            texts = [{"text": t, "model": f"sample {k}"} for k, t in enumerate(two)]
            line = {"id": f"q{n:04d}", "prompt": prompt.messages[-1].content, "answers": texts}
            items.append(line | {"category": prompt.category})
    clear = sorted(items, key=lambda i: -abs(score(i["answers"][0]["text"]) - score(i["answers"][1]["text"])))
    for line in clear[: given.gold]:
        better = score(line["answers"][0]["text"]) > score(line["answers"][1]["text"])
        line["gold"] = {"choice": "first" if better else "second"}
    (given.out / "items.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    print(f"{len(items)} pairs, {given.gold} of them gold")


# ---- the people ------------------------------------------------------------------------------------------------------


def vote(given: argparse.Namespace) -> None:
    """Serve, sign up, vote until nothing is left; every answer is acknowledged with its event."""
    db, port = given.out / "feedback.db", free_port()
    for old in given.out.glob("feedback.db*"):
        old.unlink()
    command = posttrain("label", "--project", SLUG, "--db", f"sqlite:///{db}", "--port", port,
                        "--items", given.out / "items.jsonl", "--labels", given.labels)  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as client:
            lead = join(client, invitation_of(server), "lead")
            invited = [
                client.post(f"/projects/{SLUG}/invitations", json={"role": "annotator"}, headers=lead).json()["token"]
                for _ in range(given.people)
            ]
            tokens = [join(client, link, f"annotator {n}") for n, link in enumerate(invited)]
            begun = time.monotonic()
            with ThreadPoolExecutor(given.people) as pool:
                cast = sum(pool.map(lambda n: work(client, tokens[n], n), range(given.people)))
            took = time.monotonic() - begun
            told = client.get(f"/projects/{SLUG}/quality", headers=lead).json()
            chained = client.get(f"/projects/{SLUG}/verify", headers=lead).json()
        print(f"{cast} votes in {took:.0f} s ({cast / took:.0f} a second); chain whole: {chained['ok']}")
        print(f"agreement: alpha {told['alpha']['value']:.3f}; accuracy by person: "
              + ", ".join(f"{p['accuracy']:.2f}" for p in told["people"] if p["accuracy"] is not None))  # fmt: skip
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def invitation_of(server: subprocess.Popen[str]) -> str:
    """The first administrator's token out of what the command prints."""
    assert server.stdout is not None
    for line in server.stdout:
        if match := re.search(r"first administrator.*/join/(\S+)", line):
            return match.group(1)
    raise SystemExit("the server ended without a link")


def join(client: httpx.Client, invitation: str, name: str) -> dict[str, str]:
    given = {"invitation": invitation, "name": name, "password": PASSWORD}
    for _ in range(100):  # the link is printed a moment before the server listens
        try:
            answer = client.post("/join", json=given)
            answer.raise_for_status()
            return {"authorization": f"Bearer {answer.json()['token']}"}
        except httpx.ConnectError:
            time.sleep(0.1)
    raise SystemExit("the server does not answer")


def work(client: httpx.Client, headers: dict[str, str], number: int) -> int:
    """One annotator: next task, answer, until there is none. Number 0 is careless."""
    draw, noise, cast = random.Random(number), CARELESS if number == 0 else NOISE, 0
    while True:
        task = client.get(f"/projects/{SLUG}/tasks/next", headers=headers).raise_for_status().json()
        if task is None:
            return cast
        said = opinion(task["answers"], noise, draw)
        client.post(f"/tasks/{task['id']}/answer", json=said, headers=headers).raise_for_status()
        cast += 1


# ---- learning, and what came of it -----------------------------------------------------------------------------------


def train(given: argparse.Namespace) -> None:
    run(given, stages(given) | {
        "votes": {"type": "feedback", "db": f"sqlite:///{given.out}/feedback.db", "project": SLUG,
                  "filters": {"min_reliability": 0.7}},
        "dpo": {"type": "preference", "policy": "sft", "pairs": "votes", "loss": {"type": "dpo", "beta": 0.1},
                "sft": 0.1, "lr": 1e-4, "epochs": 2, "batch_tokens": 1024, "micro_tokens": 1024},
    })  # fmt: skip


def judge(given: argparse.Namespace) -> None:
    """The hidden rule on answers to prompts nobody voted on: several samples each, paired by prompt."""
    _, asked = prompts(given)
    texts = {name: answers(folder(given, name), asked, given.samples, seed=2) for name in ("sft", "dpo")}
    mean = {name: np.array([np.mean([score(t) for t in group]) for group in texts[name]]) for name in texts}
    wins = [[(score(a) > score(b)) + 0.5 * (score(a) == score(b)) for a in x for b in y]
            for x, y in zip(texts["dpo"], texts["sft"])]  # fmt: skip
    won = stats.interval([np.mean(w) for w in wins], list(range(len(wins))))
    gap = stats.interval(mean["dpo"] - mean["sft"], list(range(len(asked))))
    up, down = int((mean["dpo"] > mean["sft"]).sum()), int((mean["dpo"] < mean["sft"]).sum())
    result = {
        "prompts": len(asked), "win_rate": won.value, "win_low": won.low, "win_high": won.high,
        "score_sft": float(mean["sft"].mean()), "score_dpo": float(mean["dpo"].mean()),
        "gap": gap.value, "gap_low": gap.low, "gap_high": gap.high,
        "p_sign": stats.mcnemar(up, down), "p_wilcoxon": stats.wilcoxon(mean["dpo"] - mean["sft"]),
        "words": {k: float(np.mean([len(t.split()) for g in v for t in g])) for k, v in texts.items()},
        "speaks_to_reader": {k: float(np.mean([speaks(t) for g in v for t in g])) for k, v in texts.items()},
    }  # fmt: skip
    (given.out / "result.json").write_text(json.dumps(result, indent=2))
    print(json.dumps(result, indent=2))


def chain(given: argparse.Namespace) -> None:
    """The printed way from weights to votes, and from one vote to weights."""
    runs = given.out / "runs" / "taste"
    subprocess.run(posttrain("show", runs), check=True)
    rows = [json.loads(line) for line in (folder(given, "votes") / "train.jsonl").open()]
    subprocess.run(posttrain("show", runs, "--vote", rows[0]["meta"]["votes"][0]), check=True)
    subprocess.run(posttrain("show", runs, "--row", rows[0]["id"]), check=True)


if __name__ == "__main__":
    main()
