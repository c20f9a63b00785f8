"""The architecture's rules, read from the code: imports point downward, light modules stay light, files are short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "posttrain"
FLOORS = {
    0: "__init__ errors rows files formats trees turns spec lora progress lazy pipeline stats gates bundled dataset "
    "edges judge constitution redteam agreement feedback store comparisons calibration listen parallel cost finite "
    "remote",
    1: "objectives",
    2: "render packing kernels attention head narrow model loading adamw shards train preflight mapped quantized "
    "sampler evals locate reward_model reward_judge rl",
    3: "stages recipe report show trace",
    4: "cli chat serve export doctor label web __main__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    """(module part of posttrain, line) of every import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "posttrain":
            rest = node.module.split(".")[1:]
            for name in [rest[0]] if rest else [a.name for a in node.names]:
                yield (name if name in FLOOR else "__init__"), node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("posttrain."):
                    yield alias.name.split(".")[1], node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    here = FLOOR[part(path)]
    above = [f"line {line} imports {name} (floor {FLOOR[name]})" for name, line in imports(path) if FLOOR[name] > here]
    assert not above, f"{path.name} is on floor {here}: {'; '.join(above)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_readable(path):
    """Every file says what it is, and none is longer than a few hundred lines."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is"
    assert len(text.splitlines()) <= 450


def test_recipes_are_validated_and_planned_without_torch():
    """Everything of floor 0 and every stage file loads without torch and transformers; so does planning."""
    light = [name for name, floor in FLOOR.items() if floor == 0 and name != "__init__"]
    code = "import sys; from pathlib import Path; from posttrain import pipeline, recipe, " + ", ".join(light) + "; "
    code += "import posttrain.stages, posttrain.judge.rules; loaded = recipe.load('assistant'); "
    code += (
        "pipeline.plan(loaded.stages, Path('/nowhere')); sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
