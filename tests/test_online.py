"""Rounds of sampling, judging and training: pairs from scores, resuming, judges that fail or abstain."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny
import yaml
from endpoint import chat, endpoint

from posttrain.errors import UserError
from posttrain.judge.base import Rule
from posttrain.judge.items import check, fits
from posttrain.pipeline import Record
from posttrain.rows import Item, Message, Pair, Sample, Verdict
from posttrain.stages.online import OnlinePreference, against, best_and_worst, judged
from posttrain.stages.sample import judge_of

ITEM = Item(id="i", cluster="c", messages=(Message(role="user", content="Say x."),), answer="7")


def sample(text, logp=-1.0, ended="stop"):
    return Sample(text=text, ids=(5, 6), logps=(logp, logp), ended=ended)


def test_best_against_worst():
    """Scores 0.2, 0.9, 0.9, 0.1: the likelier of the two best against the worst, with the difference as margin."""
    samples = [sample("a"), sample("b", -2.0), sample("c", -0.5), sample("d")]
    pair = best_and_worst(ITEM, samples, [0.2, 0.9, 0.9, 0.1], 3)
    assert (pair.chosen.content, pair.rejected.content, pair.id) == ("c", "d", "round3-i")
    assert pair.margin == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("samples", "scores"),
    [
        ([sample("a"), sample("b")], [1.0, 1.0]),  # nothing to tell apart
        ([sample("a"), sample("b")], [1.0, None]),  # the judge abstained
        ([sample("a", ended="length"), sample("b")], [1.0, 0.0]),  # the better one never ended
        ([sample("a"), sample("a ")], [1.0, 0.0]),  # the same text
        ([sample("a"), sample("", ended="stop")], [1.0, 0.0]),  # an empty answer teaches nothing
        ([sample("a"), sample("b", ended="malformed")], [1.0, 0.0]),
        ([], []),
    ],
)
def test_no_pair(samples, scores):
    assert best_and_worst(ITEM, samples, scores, 1) is None


def test_an_answer_that_never_ends_may_be_rejected():
    pair = best_and_worst(ITEM, [sample("a", ended="length"), sample("b")], [0.0, 1.0], 1)
    assert pair.rejected.content == "a"


def test_items_say_what_is_right():
    assert fits({"answer": "7"}, "It is 7.") and not fits({"answer": "7"}, "It is 8.")
    commas = {"constraints": [{"kind": "no_commas"}]}
    assert fits(commas, "fine") and not fits(commas, "a, b")
    assert fits({"label": "harmful"}, "I'm sorry, but I can't help with that.")
    with pytest.raises(UserError, match="needs `answer`"):
        fits({}, "x", "item 3")
    with pytest.raises(UserError, match="unknown constraint kind 'no_comas'"):
        check({"constraints": [{"kind": "no_comas"}]}, "item 4")


class Short:
    """A judge that forgets some of its answers."""

    async def score(self, items):
        return [Verdict(score=1.0)] * (len(items) - 1)


def test_every_sample_is_judged_with_what_its_item_says():
    seen = []
    rule = Rule(lambda a: seen.append(a) or 0.5)
    assert judged(rule, [ITEM, ITEM], [[sample("a"), sample("b")], [sample("c")]]) == [[0.5, 0.5], [0.5]]
    assert [a.answer for a in seen] == ["a", "b", "c"] and seen[0].truth == {"answer": "7"}
    with pytest.raises(UserError, match="gave 2 scores for 3 answers"):
        judged(Short(), [ITEM, ITEM], [[sample("a"), sample("b")], [sample("c")]])


def test_an_answer_that_did_not_end_is_not_asked_about():
    seen = []
    rule = Rule(lambda a: seen.append(a.answer) or -1.0)
    assert judged(rule, [ITEM], [[sample("a"), sample("b", ended="length"), sample(" ")]]) == [[-1.0, -1.0, -1.0]]
    assert judged(rule, [ITEM], [[sample("b", ended="length")]]) == [[0.0]]
    assert seen == ["a"]


def test_language_models_and_functions_judge_too():
    """The same words as a reward of the rl stage; a judge that fails is one message; abstentions prefer nothing."""
    groups = [[sample("a"), sample("abc")]]

    def made(**knobs):
        return judge_of(OnlinePreference(policy="p", judge=knobs).judge, None, None)

    assert judged(made(type="function", path="rewards_for_tests:letters"), [ITEM], groups) == [[1.0, 3.0]]
    assert judged(made(type="function", path="rewards_for_tests:halves"), [ITEM], groups) == [[None, 4.0]]
    for name, said in (("breaks", "the judge failed: ZeroDivisionError"), ("not_a_number", "the judge gave nan")):
        with pytest.raises(UserError, match=said):
            judged(made(type="function", path=f"rewards_for_tests:{name}"), [ITEM], groups)
    with endpoint(lambda path, body, number: chat("9" if "abc" in str(body) else "3")) as server:
        found = judged(
            made(type="llm", url=server.url, model="j", log_probs=False, tries=1, anyway="a test"), [ITEM], groups
        )
    assert found == [pytest.approx([2 / 9, 8 / 9])]
    with_source = OnlinePreference(policy="p", judge={"type": "function", "path": "rewards_for_tests:letters"})
    assert set(with_source.identity()) == {"prompts", "reward judge"}


def test_a_language_model_without_a_card_says_why():
    with pytest.raises(ValueError, match="only after an examination"):
        OnlinePreference(policy="p", judge={"type": "llm", "url": "http://localhost:1", "model": "j"})


def test_before_and_after_by_hand():
    """Three won, none lost: p = 2 / 2^3 = 0.25; an abstention counts on neither side."""
    found = against([0.0, 0.0, 0.0, 1.0, None], [1.0, 1.0, 1.0, 1.0, 1.0])
    assert (found["held_wins"], found["held_losses"], found["held_prompts"]) == (3, 0, 4)
    assert found["held_p"] == pytest.approx(0.25)


@pytest.mark.parametrize("knobs", [{"judge": {"type": "reward_model"}}, {"reward_models": "rm"}])
def test_judge_and_edge_go_together(knobs):
    with pytest.raises(UserError, match="go together"):
        OnlinePreference(policy="p", **knobs)


# whole runs on a tiny model, which is taught to write commas half of the time


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("online")
    tiny.folder(home / "model")
    words = ["cat", "dog", "tree", "stone", "river", "cloud"]
    lines = [{"prompt": f"Say {a} {b}.", "completion": f"{a}{s} {b}"} for a in words for b in words for s in ("", ",")]
    (home / "demos.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    asks = [
        {"id": f"p{i}", "cluster": "c", "messages": [{"role": "user", "content": f"Say {a} {b}."}],
         "constraints": [{"kind": "no_commas"}]}
        for i, (a, b) in enumerate((a, b) for a in words for b in words)
    ]  # fmt: skip
    (home / "prompts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in asks))
    recipe = {
        "runtime": {"precision": "fp32", "compile": "off"},
        "stages": {
            "base": {"type": "base_model", "model": str(home / "model")},
            "demos": {"type": "demos", "path": str(home / "demos.jsonl"), "holdout": 0.0, "dedupe": "exact"},
            "sft": {"type": "sft", "policy": "base", "data": "demos", "lr": 0.01, "steps": 40, "batch_tokens": 512,
                    "micro_tokens": 512, "max_tokens": 128},
            "online": {"type": "online_preference", "policy": "sft", "prompts": str(home / "prompts.jsonl"),
                       "rounds": 2, "per_round": 24, "n": 6, "max_new": 16, "lr": 0.003, "epochs": 4, "sft": 0.2,
                       "batch_tokens": 256, "micro_tokens": 256, "max_tokens": 128, "holdout": 0.2},
        },
    }  # fmt: skip
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return home


def command(home, runs, *more):
    return [sys.executable, "-m", "posttrain", "run", str(home / "recipe.yaml"), "--runs", str(runs), *more]


def run(home, runs, *more):
    env = os.environ | {"CI": "1", "POSTTRAIN_CACHE": str(home / "cache")}
    return subprocess.run(command(home, runs, *more), capture_output=True, text=True, check=False, env=env)


def online(runs):
    (folder,) = runs.glob("recipe/online-??????????")
    return folder


@pytest.mark.slow
def test_learns_from_its_own_answers_and_resumes(home, tmp_path):
    """Fewer commas after two rounds, on prompts that were held out; killed twice on the way, the same bytes."""
    done = run(home, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    folder = online(tmp_path / "whole")
    metrics = Record.read(folder).metrics
    print(metrics)
    assert metrics["rounds"] == 2 and metrics["round2.score"] > metrics["round1.score"]
    assert metrics["held_score"] >= metrics["held_score_before"]
    assert not list(folder.glob("round-*/policy")) and (folder / "model.safetensors").exists()
    pairs = [Pair.model_validate_json(x) for x in (folder / "round-1/pairs/train.jsonl").read_text().splitlines()]
    assert pairs and all("," not in p.chosen.content for p in pairs)
    steps = [e["step"] for e in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]
    assert steps == sorted(steps) and steps[-1] == metrics["steps"]
    env = os.environ | {"CI": "1", "POSTTRAIN_CACHE": str(home / "cache")}
    for part in ("round-1/pairs/judged.json", "round-1/done.json"):  # killed when this file has just appeared
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
        process = subprocess.Popen(command(home, tmp_path / "cut"), **quiet)
        while process.poll() is None and not list((tmp_path / "cut").glob(f"recipe/online-*/{part}")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert run(home, tmp_path / "cut").returncode == 0
    assert (online(tmp_path / "cut") / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_judge_that_sees_no_difference_is_one_message(home, tmp_path):
    text = (home / "prompts.jsonl").read_text().replace('"no_commas"', '"capital_words", "n": 50')
    (tmp_path / "same.jsonl").write_text(text)
    done = run(home, tmp_path, f"online.prompts={tmp_path / 'same.jsonl'}", "online.per_round=4", "sft.steps=2")
    assert done.returncode == 2, done.stderr
    assert "gave 0 pairs of answers that the judge tells apart" in done.stderr and "Traceback" not in done.stderr
