"""The whole path on a tiny model, through the real command: every stage kind, killed, interrupted, resumed, refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import yaml

from posttrain.pipeline import Record
from posttrain.stages.release import verify

EVALUATION = {"type": "evaluate", "suites": ["arithmetic", "capability"], "limit": 4, "max_new": 4}
RULES = [{"metric": "capability.nll", "no_worse_than": 50.0}]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a tiny model, data, suites and a recipe that uses every kind of stage."""
    home = tmp_path_factory.mktemp("home")
    tiny.folder(home / "model")
    rng = random.Random(0)
    names = ["cat", "dog", "tree", "stone", "river", "cloud"]
    words = [" ".join(rng.choices(names, k=4)) for _ in range(60)]
    write_rows(home / "demos.jsonl", [{"prompt": f"Say {w}.", "completion": f"{w}."} for w in words])
    pairs = [{"prompt": f"Repeat {w}.", "chosen": f"{w}.", "rejected": f"no {w}!"} for w in words[:30]]
    write_rows(home / "pairs.jsonl", pairs)
    ask = [{"role": "user", "content": "Write it small."}]
    lower = [{"id": f"p{i}", "cluster": "c", "messages": ask, "constraints": [{"kind": "no_commas"}]} for i in range(4)]
    write_rows(home / "prompts.jsonl", lower)
    recipe = {
        "runtime": {"precision": "fp32", "compile": "off"},
        "stages": {
            "base": {"type": "base_model", "model": str(home / "model")},
            "demos": {"type": "demos", "path": str(home / "demos.jsonl"), "holdout": 0.1},
            "before": EVALUATION | {"policy": "base"},
            "sft": {"type": "sft", "policy": "base", "data": "demos", "lr": 0.01, "steps": 40, "batch_tokens": 256,
                    "micro_tokens": 256, "max_tokens": 128, "eval_every": 4},
            "votes": {"type": "pairs", "path": str(home / "pairs.jsonl"), "holdout": 0.1},
            "sampled": {"type": "sample_pairs", "policy": "sft", "prompts": str(home / "prompts.jsonl"), "max_new": 4},
            "dpo": {"type": "preference", "policy": "sft", "pairs": ["votes", "sampled"], "lr": 0.001, "steps": 6,
                    "batch_tokens": 256, "micro_tokens": 256, "max_tokens": 200},
            "after": EVALUATION | {"policy": "dpo"},
            "gate": {"type": "gate", "candidate": "after", "baseline": "before", "rules": RULES},
            "release": {"type": "release", "policy": "dpo", "gate": "gate", "reports": ["before", "after"]},
        },
    }  # fmt: skip
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return home


def posttrain(*words, **how):
    command = [sys.executable, "-m", "posttrain", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"CI": "1"}, **how)


def run(home, runs, *more):
    return posttrain("run", home / "recipe.yaml", "--runs", runs, *more)


def weights(runs, stage):
    (folder,) = [p for p in runs.glob(f"recipe/{stage}-??????????")]
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    done = run(home, runs)
    assert done.returncode == 0, done.stderr
    return runs, done


def test_every_stage_runs_and_the_end_is_told(whole):
    runs, done = whole
    assert "report:" in done.stdout and "released model:" in done.stdout
    page = (runs / "recipe" / "report.html").read_text()
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    release = next(runs.glob("recipe/release-*"))
    assert verify(release) == []
    assert Record.read(release).verdict == "pass"


def test_learns_something(whole):
    runs, _ = whole
    sft = Record.read(next(runs.glob("recipe/sft-*")))
    assert sft.metrics["held_loss"] < sft.metrics["held_loss_before"]
    dpo = Record.read(next(runs.glob("recipe/dpo-*")))
    assert dpo.metrics["held_accuracy_before"] == 0.5
    assert dpo.metrics["held_accuracy"] > 0.5


def test_a_released_model_loads_in_transformers(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = next(whole[0].glob("recipe/release-*")) / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ask = [{"role": "user", "content": "Say cat."}]
    ids = tokenizer.apply_chat_template(ask, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert model.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] > ids["input_ids"].shape[1]


def test_a_second_run_does_nothing_and_plan_says_so(home, whole):
    runs, _ = whole
    again = run(home, runs)
    assert again.returncode == 0 and again.stderr.count("done before") == 10
    plan = posttrain("plan", home / "recipe.yaml", "--runs", runs, "sft.lr=0.02")
    assert "lr: 0.01 -> 0.02" in plan.stdout and "6 of 10 stages to run" in plan.stdout


@pytest.mark.parametrize("moment", [2.5, 5.0, 7.5])
def test_killed_anywhere_and_resumed_the_weights_are_the_same(home, whole, tmp_path, moment):
    """SIGKILL after so many seconds, again a little later, then to the end: the bytes of the run nobody killed."""
    for extra in (0.0, 3.0):
        command = [sys.executable, "-m", "posttrain", "run", str(home / "recipe.yaml"), "--runs", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment + extra)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = run(home, tmp_path)
    assert done.returncode == 0, done.stderr
    for stage in ("sft", "dpo"):
        assert weights(tmp_path, stage) == weights(whole[0], stage)
    assert not list(tmp_path.glob("recipe/*.part"))


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(home, whole, tmp_path, asked):
    command = [sys.executable, "-m", "posttrain", "run", str(home / "recipe.yaml"), "--runs", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"CI": "1"}
    )
    for line in process.stderr:
        if "held out;" in line:  # the model is loaded, training begins
            break
    time.sleep(0.5)
    process.send_signal(asked)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in said and "Traceback" not in said
    assert run(home, tmp_path).returncode == 0
    assert weights(tmp_path, "sft") == weights(whole[0], "sft")


def test_a_gate_that_fails_blocks_the_release(home, whole):
    runs, _ = whole
    done = run(home, runs, 'gate.rules=[{"metric": "capability.nll", "better_than": 100.0}]')
    assert done.returncode == 1
    assert "gate 'gate': fail" in done.stdout and "release" in done.stdout
    assert (runs / "recipe" / "report.html").exists()


BAD = [
    (["sft.lrr=1"], "unknown key 'lrr'"),
    (["demos.path=/nowhere.jsonl"], "/nowhere.jsonl"),
    (["base.model=/nowhere"], "/nowhere"),
    (["sft.max_tokens=8"], "the longest has"),
    (["sft.policy=demos"], "needs a policy"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=lambda x: x[0] if isinstance(x, list) else None)
def test_bad_input_is_one_message_without_a_traceback(home, tmp_path, change, said):
    done = run(home, tmp_path, *change)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("recipe/sft-??????????"))


def test_a_bad_row_is_named_and_can_be_skipped(home, tmp_path):
    rows = (home / "demos.jsonl").read_text() + '{"prompt": "x"}\n'
    (tmp_path / "rows.jsonl").write_text(rows)
    change = f"demos.path={tmp_path / 'rows.jsonl'}"
    done = run(home, tmp_path / "runs", change)
    assert done.returncode == 2
    assert "rows.jsonl:61" in done.stderr and "expected" in done.stderr
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    recipe["stages"] = {"demos": recipe["stages"]["demos"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(recipe))
    done = posttrain("run", tmp_path / "data.yaml", "--runs", tmp_path / "runs", change, "--bad-rows", "skip")
    assert done.returncode == 0, done.stderr
    (ledger,) = (tmp_path / "runs").glob("data/demos-*/ledger.jsonl")
    assert "rows.jsonl:61" in ledger.read_text()


def test_a_model_folder_without_tokenizer_is_refused(home, tmp_path):
    tiny.model().save_pretrained(tmp_path / "bare")
    done = run(home, tmp_path / "runs", f"base.model={tmp_path / 'bare'}")
    assert done.returncode == 2
    assert "tokenizer" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_said_and_nothing_is_half_written(home, tmp_path):
    """/dev/full would be no directory, so the limit is on file size: the kernel refuses the checkpoint's bytes."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); from posttrain.cli import main; main(sys.argv[1:])"
    )
    words = ["run", str(home / "recipe.yaml"), "--runs", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("recipe/sft-??????????"))


def test_lora_trains_and_merges(home, tmp_path):
    pytest.importorskip("peft")
    recipe = yaml.safe_load((home / "recipe.yaml").read_text())
    keep = {k: recipe["stages"][k] for k in ("base", "demos", "sft", "votes")}
    keep["sft"] |= {"lora": {"rank": 4}, "lr": 0.05}
    keep["dpo"] = recipe["stages"]["dpo"] | {"pairs": "votes", "lora": {"rank": 4}}
    recipe["stages"] = keep
    path = Path(tmp_path / "recipe.yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = posttrain("run", path, "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    sft = Record.read(next(tmp_path.glob("recipe/sft-*")))
    assert sft.metrics["held_loss"] < sft.metrics["held_loss_before"]
    dpo = Record.read(next(tmp_path.glob("recipe/dpo-*")))
    assert dpo.metrics["held_margin_before"] == 0.0  # the reference is the start, adapter off


def test_chat_export_show_and_diff_take_a_run(home, whole, tmp_path):
    run_folder = whole[0] / "recipe"
    talk = posttrain("chat", run_folder, home / "model", "--max-new", "4", input="hello\n/new\nSay cat.\n/quit\n")
    assert talk.returncode == 0 and talk.stdout.count("[recipe]") == 2, talk.stderr
    done = posttrain("export", run_folder, tmp_path / "mine")
    assert done.returncode == 0 and (tmp_path / "mine" / "model.safetensors").exists()
    assert not (tmp_path / "mine" / "record.json").exists()
    again = posttrain("export", run_folder, tmp_path / "mine")
    assert again.returncode == 2 and "already exists" in again.stderr
    assert "held_loss" in posttrain("show", run_folder).stdout
    sft, dpo = (next(whole[0].glob(f"recipe/{s}-*")) for s in ("sft", "dpo"))
    assert "lr" in posttrain("diff", sft, dpo).stdout


def test_a_run_can_be_the_start_of_another(home, whole, tmp_path):
    recipe = {"stages": {"base": {"type": "base_model", "model": str(whole[0] / "recipe")}}}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(recipe))
    done = posttrain("run", tmp_path / "next.yaml", "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert weights_of(next(tmp_path.glob("next/base-*"))) == weights(whole[0], "dpo")


def weights_of(folder):
    return (folder / "model.safetensors").read_bytes()
