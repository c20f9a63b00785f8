"""lm-evaluation-harness and Inspect, the real packages, run against a served model. Needs the extra `harness`.

Tasks and data are written here; nothing is fetched. What the harness counts is compared with transformers itself.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain import bundled
from posttrain.render import load_chat
from posttrain.rows import Message

pytestmark = pytest.mark.slow
pytest.importorskip("lm_eval")
pytest.importorskip("inspect_ai")

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1",
           "INSPECT_DISPLAY": "plain", "NO_COLOR": "1"}  # fmt: skip
CHOICES = [
    {"question": "The sun rises in the", "choices": [" east", " fridge", " spoon"], "answer": 0},
    {"question": "Fish live in the", "choices": [" lamp", " water", " letter"], "answer": 1},
    {"question": "In winter it is", "choices": [" sandwich", " cold", " seven"], "answer": 1},
    {"question": "She opened the door and walked", "choices": [" in", " blue", " of"], "answer": 0},
]
WORDS = [{"question": f"Say the word {w}.", "answer": w} for w in ("tree", "house", "water")]
CHOICE_TASK = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}/choices.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
WORD_TASK = """
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}/words.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 24, temperature: 0}}
metric_list: [{{metric: exact_match, ignore_case: true}}]
"""
INSPECT_TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

@task
def words():
    return Task(
        dataset=[Sample(input=f"Say the word {w}.", target=w) for w in ("tree", "house", "water")],
        solver=generate(temperature=0.0, max_tokens=24, seed=1), scorer=includes(),
    )
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """`posttrain serve bundled` in a process of its own."""
    command = [sys.executable, "-m", "posttrain", "serve", "bundled", "--port", "0", "--api-key", "secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | OFFLINE) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+/v1", process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


def write_tasks(folder: Path) -> None:
    for name, rows in (("choices", CHOICES), ("words", WORDS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "choices.yaml").write_text(CHOICE_TASK.format(data=folder))
    (folder / "words.yaml").write_text(WORD_TASK.format(data=folder))


def harness(url: str, folder: Path, kind: str, path: str, tasks: str, *more: str) -> dict[str, Any]:
    """Runs lm-eval's command, returns its results and its samples by task."""
    out = folder / f"out-{kind}"
    arguments = f"model=bundled,base_url={url}{path},num_concurrent=4,max_retries=1,max_length=2048"
    arguments += f",tokenizer={bundled.model()},tokenizer_backend=huggingface" if kind == "local-completions" else ""
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args", arguments, "--tasks", tasks,
        "--include_path", str(folder), "--output_path", str(out), "--log_samples", *more,
    ]  # fmt: skip
    env = os.environ | OFFLINE | {"OPENAI_API_KEY": "secret", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(next(out.rglob("results_*.json")).read_text())["results"]
    samples = {
        path.name.removeprefix("samples_").rsplit("_", 1)[0]: [json.loads(x) for x in path.read_text().splitlines()]
        for path in out.rglob("samples_*.jsonl")
    }
    return {"results": results, "samples": samples}


def test_lm_eval_log_likelihood_and_generation(url: str, tmp_path: Path) -> None:
    """Both kinds of request of `local-completions`; log-likelihoods against transformers' own forward pass."""
    write_tasks(tmp_path)
    found = harness(url, tmp_path, "local-completions", "/completions", "choices,words")
    assert found["results"]["choices"]["acc,none"] == 1.0
    assert set(found["samples"]) == {"choices", "words"}
    by_question = {s["doc"]["question"]: s for s in found["samples"]["choices"]}
    for row in CHOICES[:2]:
        sample = by_question[row["question"]]
        told = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert told == pytest.approx(list(log_likelihoods(row["question"], row["choices"])), abs=0.3)  # bf16
    assert all(s["resps"][0][0].strip() for s in found["samples"]["words"])


def log_likelihoods(context: str, choices: list[str]) -> Iterator[float]:
    import transformers

    folder = bundled.model()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    start = len(tokenizer(context).input_ids)
    for choice in choices:
        ids = tokenizer(context + choice).input_ids
        with torch.no_grad():
            logp = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
        yield float(logp.gather(1, torch.tensor(ids[1:])[:, None])[start - 1 :].sum())


def test_lm_eval_chat(url: str, tmp_path: Path) -> None:
    """`local-chat-completions`: the server's template; greedy, so equal to what the plain endpoint says to its text."""
    write_tasks(tmp_path)
    found = harness(url, tmp_path, "local-chat-completions", "/chat/completions", "words", "--apply_chat_template")
    chat = load_chat(bundled.model())
    said = {s["doc"]["question"]: s["resps"][0][0] for s in found["samples"]["words"]}
    import httpx

    for question, text in said.items():
        prompt = chat.prompt([Message(role="user", content=question)])
        body = {"prompt": prompt, "max_tokens": 24, "temperature": 0, "stop": ["\n\n"]}
        plain = httpx.post(url + "/completions", json=body, headers={"authorization": "Bearer secret"}, timeout=60)
        assert plain.json()["choices"][0]["text"].strip() == text.strip()


def test_inspect(url: str, tmp_path: Path) -> None:
    """Inspect's provider for OpenAI-compatible servers, greedy, three samples."""
    (tmp_path / "words.py").write_text(INSPECT_TASK)
    command = [
        sys.executable, "-c", "from inspect_ai._cli.main import main; main()", "eval", "words.py",
        "--model", "openai-api/posttrain/bundled", "--log-format", "json", "--log-dir", "logs",
    ]  # fmt: skip
    env = os.environ | OFFLINE | {"POSTTRAIN_API_KEY": "secret", "POSTTRAIN_BASE_URL": url}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    log = json.loads(next((tmp_path / "logs").glob("*.json")).read_text())
    assert log["status"] == "success" and len(log["samples"]) == 3
    assert all(s["output"]["completion"].strip() for s in log["samples"])
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] is not None
