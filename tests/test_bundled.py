"""What ships: rows are what the workshop writes, plenty, varied, disjoint from evaluation; the model unpacks right."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from posttrain import bundled
from posttrain.comparisons import from_ranking
from posttrain.dataset.clean import leaks
from posttrain.errors import UserError
from posttrain.rows import Demo, Item, Pair, Ranking, read_jsonl

ROOT = Path(__file__).parent.parent
SUITES = sorted((Path(bundled.__file__).parent / "suites").glob("*.jsonl"))


@pytest.fixture(scope="module")
def demos():
    return [d for name in ("demos", "formats") for d in read_jsonl(bundled.rows(name), Demo)]


@pytest.fixture(scope="module")
def safety():
    return list(read_jsonl(bundled.rows("safety"), Demo))


@pytest.fixture(scope="module")
def pairs():
    return list(read_jsonl(bundled.rows("pairs"), Pair))


@pytest.fixture(scope="module")
def rankings():
    return list(read_jsonl(bundled.rows("rankings"), Ranking))


def test_the_files_are_what_the_workshop_writes():
    done = subprocess.run(
        [sys.executable, "data/build.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_suites_are_what_their_generators_write(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'data/generators'); from pathlib import Path; import write_suites as w;"
        f"w.SUITES = Path({str(tmp_path)!r}); w.main()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    written = sorted(tmp_path.glob("*.jsonl"))
    assert len(written) == 13
    for path in written:
        assert path.read_text() == (Path(bundled.__file__).parent / "suites" / path.name).read_text(), path.name


def test_demonstrations_are_many_and_varied(demos):
    categories = Counter(d.category for d in demos)
    assert len(demos) >= 2500 and len(categories) >= 20
    assert min(categories.values()) >= 40
    several = [d for d in demos if sum(m.role == "user" for m in d.messages) > 1]
    assert len(several) >= 300
    assert len({d.id for d in demos}) == len(demos)
    assert sum(d.messages[0].role == "system" for d in demos) >= 130


def test_answers_fit_a_small_model(demos):
    """One to four sentences: nearly all below 90 words, none of the phrases that mark a lazy answer."""
    answers = [m.content for d in demos for m in d.messages if m.role == "assistant"]
    assert sum(len(a.split()) > 90 for a in answers) < 0.01 * len(answers)
    assert not [a for a in answers if "language model" in a.lower() or a.startswith("Certainly")]
    assert all(a.strip() for a in answers)


def test_safety_is_two_sided(safety):
    sides = Counter(d.category for d in safety)
    assert len(safety) >= 600 and min(sides["refuse"], sides["lookalike"]) >= 300


def test_pairs_have_reasons_and_no_length_shortcut(pairs):
    """`Longer is better` must be near a coin's toss, or preference training would learn length."""
    assert len(pairs) >= 800 and all(p.reason for p in pairs)
    longer = sum(len(p.chosen.content) > len(p.rejected.content) for p in pairs) / len(pairs)
    assert 0.4 < longer < 0.6


def test_rankings_are_of_four_answers_in_no_order_with_no_length_shortcut(rankings, pairs):
    assert len(rankings) >= 300 and all(len(set(r.answers)) == 4 for r in rankings)
    assert all(r.ranks.count(0) == 1 for r in rankings)
    best = Counter(r.ranks.index(0) for r in rankings)
    assert min(best.values()) > 0.15 * len(rankings)
    assert any(len(set(r.ranks)) == 3 for r in rankings)  # ties
    compared = [(g.answers[c.better], g.answers[c.worse]) for g in map(from_ranking, rankings)
                for c in g.comparisons if c.soft == 1]  # fmt: skip
    longer = sum(len(better.content) > len(worse.content) for better, worse in compared) / len(compared)
    assert 0.4 < longer < 0.6
    assert not {r.prompt for r in rankings} & {p.prompt for p in pairs}


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.stem)
def test_training_and_evaluation_are_disjoint(path, demos, safety, pairs, rankings):
    items = [" ".join(m.content for m in i.messages if m.role == "user") for i in read_jsonl(path, Item) if i.messages]
    prompts = list(read_jsonl(bundled.rows("prompts"), Item))
    rows = [[m.content for m in d.messages if m.role != "system"] for d in (*demos, *safety, *prompts)]
    rows += [[m.content for m in p.prompt if m.role != "system"] for p in (*pairs, *rankings)]
    found = leaks(rows, items, 13) if items else {}
    assert not found, [(rows[n], items[item]) for n, (item, _) in list(found.items())[:3]]


@pytest.mark.parametrize("prompts, suite", [("comparisons", "compare"), ("additions", "sums_below_100")])
def test_problems_share_no_operands_with_their_suite_nor_questions_with_demonstrations(demos, prompts, suite):
    rows = [list(read_jsonl(bundled.rows(name), Item)) for name in (prompts, suite)]
    solved, kept = ({(i.cluster, frozenset(numbers(i))) for i in items} for items in rows)
    assert len(rows[0]) >= 800 and len(kept) >= 190 and not solved & kept
    asked = {d.messages[0].content for d in (*demos, *read_jsonl(bundled.rows("sums"), Demo))}
    assert not asked & {i.messages[-1].content for i in rows[0]}
    right = {"bigger": max, "smaller": min, "add": sum}
    assert all(right[i.cluster](numbers(i)) == int(i.answer) for items in rows for i in items)


def numbers(item):
    return [int(n) for n in re.findall(r"\d+", item.messages[-1].content)]


def test_the_packed_model_is_small_and_unpacks_close_to_the_original_precision():
    """int8 rows with fp16 scales: the largest error of a weight is half a step, 1/254 of its row's largest weight."""
    import torch
    from safetensors.torch import load_file

    size = sum(f.stat().st_size for f in bundled.PACKED.parent.iterdir())
    assert size < 28e6
    weights = load_file(bundled.model() / "model.safetensors")
    assert sum(w.numel() for w in weights.values()) == 27_795_968
    assert all(w.dtype == torch.bfloat16 and torch.isfinite(w).all() for w in weights.values())


def test_packing_and_unpacking_by_hand(tmp_path):
    """Row (1, -0.5): scale 1/127, ints 127 and -64 (rounded from -63.5) -> 1 and -0.504, in bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    save_file({"w": torch.tensor([[1.0, -0.5]]), "norm": torch.tensor([2.0])}, tmp_path / "a.safetensors")
    bundled.pack(tmp_path, tmp_path / "packed.xz")
    bundled.unpack(tmp_path / "packed.xz", tmp_path / "out")
    back = load_file(tmp_path / "out")
    torch.testing.assert_close(back["w"].float(), torch.tensor([[1.0, -0.5]]), atol=6e-3, rtol=0)
    assert back["norm"].item() == 2.0


def test_an_unknown_name_suggests_the_right_one():
    with pytest.raises(UserError, match="demoss") as error:
        bundled.rows("demoss")
    assert "demos" in error.value.remedy
