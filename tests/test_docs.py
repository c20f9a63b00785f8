"""The documentation tells the truth: its commands run, its recipes validate, its files exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from posttrain import constitution
from posttrain import recipe as recipes

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = (
    "make ", "posttrain run", "git clone", "posttrain chat runs", "posttrain export runs", "posttrain diff",
    "posttrain label --project", "posttrain serve runs", "posttrain serve bundled",
)  # fmt: skip


def blocks(language):
    for page in PAGES:
        for body in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S):
            yield page.name, body


COMMANDS = sorted({line for _, body in blocks("bash") for line in body.splitlines() if line.startswith("posttrain")})


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith(LONG)])
def test_commands_run(command):
    words = shlex.split(command, comments=True)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "posttrain", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("body", [b for _, b in blocks("yaml")])
def test_yaml_is_a_recipe_or_a_stage(body):
    tree = yaml.safe_load(body)
    stages = tree.get("stages", tree)
    types = recipes.stage_types()
    for name, stage in stages.items():
        types[stage["type"]].model_validate(stage), name


@pytest.mark.parametrize("body", [b for _, b in blocks("python")])
def test_python_runs(body):
    exec(compile(body, "docs", "exec"), {"__name__": "docs"})


def test_a_constitution_in_the_docs_loads(tmp_path):
    shown = [body for _, body in blocks("text") if "principles:" in body]
    assert shown
    for body in shown:
        (tmp_path / "law.yaml").write_text(body)
        assert constitution.load(str(tmp_path / "law.yaml")).principles


def test_relative_links_and_named_files_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
