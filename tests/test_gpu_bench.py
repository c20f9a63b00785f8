"""benchmarks/gpu.py runs on a machine without a GPU: every task on the tiny shape, and the record it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("task", "train"), [("sft", "checkpoint"), ("dpo", "full"), ("sample", "full"), ("grpo", "full")]
)
def test_the_tiny_shape(tmp_path, task, train):
    size = ["--steps", "3", "--skip", "1", "--rounds", "1", "--prompts", "3", "--group", "2", "--new", "5"]
    more = ["--micro-tokens", "512", "--compile", "off", "--no-trl", "--device", "cpu", "--precision", "fp32"]
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--shape", "tiny", "--task", task, "--train", train]
    done = subprocess.run(
        [*script, *size, *more, "--results", str(tmp_path)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob(f"gpu-tiny-{train}-*.json")
    record = json.loads(path.read_text())
    (found,) = record["tasks"]
    assert record["machine"]["cores"] and record["versions"]["torch"] and record["peak_tflops"] > 0
    assert found["tokens_per_second"] > 0 and found["peak_gib"] > 0
    assert len(found["seconds"]) == (1 if task == "sample" else 2)
    assert ("mfu" in found) == (task in ("sft", "dpo"))
