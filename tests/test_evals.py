"""Sample once, score many: suites score scripted answers, the runner counts them, the stages read and write."""

import asyncio
import json
from math import exp, log

import pytest
import tiny

from posttrain.errors import UserError
from posttrain.evals import runner
from posttrain.evals.suites import capability, facts, hygiene, instructions, refusals
from posttrain.evals.task import Done, Share, load, prompt_hash
from posttrain.gates import Rule
from posttrain.pipeline import Inputs, Runtime
from posttrain.progress import Progress
from posttrain.rows import Item, Message, Sample
from posttrain.stages.evaluate import Evaluate, Likelihood
from posttrain.stages.gate import Gate, read_report


def item(id="a", text="Hi", cluster="c", **fields):
    return Item(id=id, cluster=cluster, messages=(Message(role="user", content=text),), **fields)


def done(text, ended="stop", **more):
    return Done(id="a", suite="s", text=text, ended=ended, tokens=len(text.split()), **more)


def test_instructions():
    asked = item(constraints=[{"kind": "no_commas"}, {"kind": "all_lower"}])
    assert instructions.score(asked, done("Sure, here:\nred and green")) == {
        "strict": 0.0, "loose": 1.0, "instruction_strict": Share(0, 2), "instruction_loose": Share(2, 2),
    }  # fmt: skip


def test_refusals_are_two_sided():
    harmful, safe = item(label="harmful"), item(label="safe")
    no, yes = done("I can't help with that."), done("Open the task manager and end it.")
    assert refusals.score(harmful, no) == {"harmful_refused": 1.0}
    assert refusals.score(harmful, yes) == {"harmful_refused": 0.0}
    assert refusals.score(safe, yes) == {"safe_answered": 1.0, "safe_refused": 0.0}
    assert refusals.score(safe, no) == {"safe_answered": 0.0, "safe_refused": 1.0}


@pytest.mark.parametrize(
    ("text", "ended"), [("the end the end the end the end", "stop"), ("Open the menu.", "length"), ("", "stop")]
)
def test_babble_is_no_answer(text, ended):
    assert refusals.score(item(label="safe"), done(text, ended)) == {"safe_answered": 0.0, "safe_refused": 0.0}


def test_facts():
    known, unknown = item(answerable=True, answers=["Rome"]), item(answerable=False, answers=[])
    assert facts.score(known, done("It is Rome.")) == {"accuracy": 1.0, "wrong": 0.0}
    assert facts.score(known, done("It is Paris.")) == {"accuracy": 0.0, "wrong": 1.0}
    assert facts.score(known, done("I don't know.")) == {"accuracy": 0.0, "wrong": 0.0}
    assert facts.score(known, done("One. Two. Three. Rome."))["accuracy"] == 0.0  # a list that drags on is no answer
    assert facts.score(unknown, done("I don't know.")) == {"abstained": 1.0, "wrong": 0.0}
    assert facts.score(unknown, done("Bob won.")) == {"abstained": 0.0, "wrong": 1.0}


@pytest.mark.parametrize(
    ("text", "ended", "clean"),
    [
        ("A nice day.", "stop", 1.0), ("", "stop", 0.0), ("Yes.\nUser: and now?", "stop", 0.0),
        ("Yes. Assistant: no", "stop", 0.0), ("Hello <|im_end|>", "stop", 0.0), ("Fine.", "malformed", 0.0),
        ("The user asks for an assistant.", "stop", 1.0), ("### Response\nYes", "stop", 0.0),
    ],
)  # fmt: skip
def test_clean(text, ended, clean):
    assert hygiene.score(item(check="stops"), done(text, ended))["clean"] == clean


def test_hygiene():
    recall = item(check="recall", answers=["Pudding"])
    assert hygiene.score(recall, done("Her name is Pudding.")) == {"stopped": 1.0, "clean": 1.0, "recall": 1.0}
    system = item(check="system", constraints=[{"kind": "no_commas"}])
    assert hygiene.score(system, done("Well, no", "length")) == {"stopped": 0.0, "clean": 1.0, "system": 0.0}


def test_choices_by_likelihood_per_byte():
    """' ox' 4 nats over 3 bytes is worse than ' horses' 7 over 7: the longer one wins though its sum is lower."""
    asked = Item(id="a", cluster="c", context="The", choices=["ox", "horses"], correct=1)
    assert capability.question(asked) == ("The", (" ox", " horses"))
    assert capability.score(asked, done("", logps=(-4.0, -7.0), counts=(1, 2))) == {"choice_accuracy": 1.0}


SUITE = [
    {"id": "1", "cluster": "x", "messages": [{"role": "user", "content": "What is 1 + 1?"}], "answer": "2"},
    {"id": "2", "cluster": "x", "messages": [{"role": "user", "content": "What is 2 + 2?"}], "answer": "4"},
]


def write_suite(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_users_own_suite(tmp_path):
    own = load(write_suite(tmp_path / "sums.jsonl", SUITE))
    assert own.name == "sums" and len(own.items) == 2
    assert own.scoring.METRICS == {"accuracy": True}


def test_an_own_suite_may_say_whose_scoring_it_wants(tmp_path):
    """Choices are scored as capability, unless the first item asks for calibration."""
    row = {"id": "1", "cluster": "x", "context": "The sky is", "choices": ["blue", "green"], "correct": 0}
    assert load(write_suite(tmp_path / "own.jsonl", [row])).scoring is capability
    named = load(write_suite(tmp_path / "own.jsonl", [row | {"scoring": "calibration"}]))
    assert "brier" in named.scoring.METRICS
    with pytest.raises(UserError, match="no suite 'calibratio' to score as"):
        load(write_suite(tmp_path / "own.jsonl", [row | {"scoring": "calibratio"}]))


@pytest.mark.parametrize(
    ("suites", "said"),
    [
        (("facts", "facts"), "two suites are called 'facts'"),
        (("facts", "{}/facts.jsonl"), "two suites are called 'facts'"),
        (("{}/a/own.jsonl", "{}/b/own.jsonl"), "two suites are called 'own'"),
        (("{}/pinned.jsonl",), "cannot be called 'pinned'"),
        (("{}/all.jsonl",), "cannot be called 'all'"),
    ],
)
def test_suites_of_one_name_do_not_overwrite_each_other(tmp_path, suites, said):
    with pytest.raises(ValueError, match=said):
        Evaluate(policy="p", suites=tuple(s.format(tmp_path) for s in suites))


def test_a_gate_says_before_anything_runs_what_its_rules_can_find():
    """Items by what the suites hold: 2.487 sqrt(0.2 / n); continuous metrics and unknown ones are passed over."""
    names = ("refusals.harmful_refused", "all.stopped", "capability.nll", "bias.tone_gap", "pinned.resisted",
             "diversity.fresh")  # fmt: skip
    rules = tuple(Rule(metric=m, no_worse_than=0.1) for m in names)
    asked = Evaluate(policy="p", suites=("refusals", "capability", "bias", "diversity"), limit=40)
    lines = Gate(candidate="e", baseline="e", rules=rules).forecast(asked)
    n = sum(i.label == "harmful" for i in load("refusals", 40).items)
    drop = 2.487 * (0.2 / n) ** 0.5
    assert len(lines) == 2 and f"{n} items at best find a true drop of {drop:.3f}" in lines[0]
    assert "too few to prove it" in lines[0] and "120 items at best" in lines[1]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("refusals.harmful_refuse", "have no metric 'harmful_refuse'"), ("all.stoped", "have no metric 'stoped'"),
        ("calibration.ece", "have no metric 'ece'"), ("all.words", "no better direction"),
        ("pinned.refuse", "have no metric 'refuse'"), ("sums.acuracy", "have no metric 'acuracy'"),
    ],
)  # fmt: skip
def test_a_rule_on_a_metric_that_no_item_has_is_refused_before_anything_runs(tmp_path, metric, said):
    suites = ("refusals", "calibration", write_suite(tmp_path / "sums.jsonl", SUITE))
    asked = Evaluate(policy="p", suites=suites)
    gate = Gate(candidate="e", baseline="e", rules=(Rule(metric=metric, no_worse_than=0.1),))
    with pytest.raises(UserError, match=said) as error:
        gate.fits({"candidate": (asked,), "baseline": (asked,)})
    assert error.value.where == "rules.0.metric" and error.value.remedy


def test_an_own_suite_is_read_before_anything_runs(tmp_path):
    asked = Evaluate(policy="p", suites=("facts", write_suite(tmp_path / "own.jsonl", [SUITE[0], SUITE[0]])))
    with pytest.raises(UserError, match="appears twice"):
        asked.fits({})


def test_a_gate_knows_suites_whose_files_have_dots_in_their_names(tmp_path):
    rule = Rule(metric="desk.v2.accuracy", no_worse_than=0.1)
    gate = Gate(candidate="e", baseline="e", rules=(rule,))
    paths = [write_suite(tmp_path / f"{n}.jsonl", SUITE) for n in ("desk.v2", "desk.v1")]
    held, other = (Evaluate(policy="p", suites=(path,)) for path in paths)
    gate.fits({"candidate": (held,), "baseline": (held,)})
    with pytest.raises(UserError, match=r"evaluates no suite 'desk\.v2'"):
        gate.fits({"candidate": (other,), "baseline": (held,)})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([SUITE[0], SUITE[0]], "twice"),
        ([SUITE[0] | {"answer": "two hundred cows and"}, SUITE[1] | {"answer": "cow"}], "must be a number"),
        ([{"id": "1", "cluster": "x", "messages": SUITE[0]["messages"]}], "cannot tell how to score"),
        ([SUITE[0] | {"messages": [{"role": "assistant", "content": "It is 2."}]}], "before the assistant speaks"),
        ([], "no items"),
        ([{"cluster": "x"}], "id"),
    ],
)
def test_bad_suites_are_one_clear_message(tmp_path, rows, said):
    with pytest.raises(UserError) as error:
        load(write_suite(tmp_path / "own.jsonl", rows))
    assert said in str(error.value)


def test_unknown_suite_names_the_nearest():
    with pytest.raises(UserError, match="arithmetic"):
        load("arithmetik")


def test_limit_is_nested_and_independent_of_order(tmp_path):
    rows = [SUITE[0] | {"id": str(i)} for i in range(40)]
    one = load(write_suite(tmp_path / "a.jsonl", rows), limit=10)
    two = load(write_suite(tmp_path / "a.jsonl", rows[::-1]), limit=20)
    assert {i.id for i in one.items} < {i.id for i in two.items} and len(two.items) == 20


def test_prompt_hash_sees_the_question_not_the_answer_key():
    assert prompt_hash(item(answer="1")) == prompt_hash(item(answer="2"))
    assert prompt_hash(item(text="Hi")) != prompt_hash(item(text="Ho"))
    text = [Item(id="a", cluster="c", text=t) for t in ("one", "two")]
    assert prompt_hash(text[0]) != prompt_hash(text[1])


def scripted(say):
    async def answer(conversations, on_step):
        on_step(len(conversations), 1)
        said = [say(messages[-1].content) for messages in conversations]
        return [Sample(text=s, ids=(1, 2), logps=(0.0, 0.0), ended="stop") for s in said]

    return answer


def uniform(questions, on_step):
    """Every blank-separated word is a token with probability 1/8."""
    on_step(len(questions), 1)
    return [[[-log(8)] * len(text.split()) for text in continuations] for _, continuations in questions]


def tasks(tmp_path):
    sums = [SUITE[0] | {"id": str(i), "cluster": str(i)} for i in range(20)]
    texts = [{"id": str(i), "cluster": "t", "text": "some words here " * (i + 1)} for i in range(6)]
    asked = {"label": "harmful", "messages": SUITE[0]["messages"]}
    kinds = [{"id": f"r{i}", "cluster": str(i)} | asked for i in range(20)]
    named = {"sums": sums, "prose": texts, "refuse": kinds}
    return [load(write_suite(tmp_path / f"{name}.jsonl", rows)) for name, rows in named.items()]


def test_report(tmp_path):
    """Answers "It is 2." to everything: sums right, nothing refused, 3 words; ln 8 nats per word, perplexity 8."""
    found = tasks(tmp_path)
    kept = asyncio.run(runner.ask(found, scripted(lambda _: "It is 2."), uniform, Progress("silent")))
    summary = runner.write(tmp_path / "report", found, kept, {"sampling": {"max_new": 8}})
    metrics = summary["metrics"]
    assert metrics["sums.accuracy"]["value"] == 1.0 and metrics["sums.accuracy"]["n"] == 20
    assert metrics["sums.accuracy"]["low"] == pytest.approx(20 / (20 + 1.96**2), abs=1e-3)
    assert metrics["prose.nll"]["value"] == pytest.approx(log(8))
    assert metrics["prose.perplexity"]["value"] == pytest.approx(8.0)
    assert metrics["prose.perplexity"]["high"] == pytest.approx(exp(metrics["prose.nll"]["high"]))
    assert metrics["refuse.harmful_refused"]["value"] == 0.0
    assert metrics["refuse.harmful_refused_corrected"]["value"] == 0.0
    assert metrics["all.words"]["value"] == 3.0 and metrics["all.words"]["n"] == 40
    assert metrics["all.words"]["higher_is_better"] is None
    assert all(set(m) == {"value", "n", "low", "high", "higher_is_better"} for m in metrics.values())
    assert all(m["low"] <= m["value"] <= m["high"] for m in metrics.values())
    assert summary["suites"]["sums"]["n"] == 20 and summary["judge"].startswith("rules-")
    assert summary["sampling"] == {"max_new": 8}


def test_rescoring_needs_no_model(tmp_path):
    found = tasks(tmp_path)
    kept = asyncio.run(runner.ask(found, scripted(lambda q: "2" if "1 +" in q else "no"), uniform, Progress("silent")))
    first = runner.write(tmp_path / "report", found, kept, {"sampling": {"seed": 3}})
    assert runner.rescore(tmp_path / "report", tmp_path / "again", found) == first
    for name in ("samples.jsonl", "items.jsonl", "summary.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()
    with pytest.raises(UserError, match="no answer was kept"):
        runner.score(found, kept[1:])


def test_gate_stage_reads_reports_and_keeps_its_verdict(tmp_path):
    found = tasks(tmp_path)
    for name, text in (("before", "It is 3."), ("after", "It is 2.")):
        kept = asyncio.run(runner.ask(found, scripted(lambda _, t=text: t), uniform, Progress("silent")))
        runner.write(tmp_path / name, found, kept)
    out = tmp_path / "gate"
    out.mkdir()
    better, worse = Rule(metric="sums.accuracy", better_than=0.5), Rule(metric="prose.nll", no_worse_than=0.01)
    paths = {"candidate": (tmp_path / "after",), "baseline": (tmp_path / "before",), "noise": (tmp_path / "before",)}
    gate = Gate(candidate="after", baseline="before", noise="before", rules=(better, worse))
    metrics = gate.run(Inputs(paths), out, Runtime())
    assert gate.verdict(out) == "pass" and metrics["exit_code"] == 0.0
    assert metrics["sums.accuracy.difference"] == 1.0
    swapped = paths | {"candidate": paths["baseline"], "baseline": paths["candidate"]}
    back = Gate(candidate="before", baseline="after", rules=(Rule(metric="sums.accuracy", no_worse_than=0.02),))
    assert back.run(Inputs(swapped), out, Runtime())["exit_code"] == 1.0
    assert back.verdict(out) == "fail"
    with pytest.raises(UserError, match="not an evaluation report"):
        read_report(tmp_path)


def test_identity_follows_the_suites_file(tmp_path):
    path = write_suite(tmp_path / "own.jsonl", SUITE)
    stage = Evaluate(policy="base", suites=(path, "facts"))
    before = stage.identity()
    write_suite(tmp_path / "own.jsonl", SUITE[:1])
    after = stage.identity()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {f"suite {path}"}
    assert Evaluate.edge_kinds() == {"policy": "policy", "cases": "demos", "after": "decision"}
    assert Gate.edge_kinds() == {"candidate": "report", "baseline": "report", "noise": "report", "after": "decision"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("model"))


def test_likelihood_is_the_plain_models(folder):
    """Packed, with the context shared between choices, against one forward pass of transformers per choice."""
    import torch
    import transformers

    from posttrain.loading import load_model
    from posttrain.render import load_chat

    chat = load_chat(folder)
    model = load_model(folder, Runtime(device="cpu", precision="fp32"), train=False)
    questions = [("the user", (" asks", " answers in one")), ("", ("two sentences",))]
    found = Likelihood(model, chat)(questions, lambda n, tokens: None)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    for (context, continuations), per_continuation in zip(questions, found):
        for text, logps in zip(continuations, per_continuation):
            prefix = [0, *chat.tokenizer(context, add_special_tokens=False).input_ids]
            ids = chat.tokenizer(text, add_special_tokens=False).input_ids
            with torch.no_grad():
                logp_TV = plain(torch.tensor([prefix + ids])).logits[0].log_softmax(-1)
            expected = [float(logp_TV[len(prefix) + i - 1, token]) for i, token in enumerate(ids)]
            assert logps == pytest.approx(expected, abs=1e-4)


def test_an_item_that_leaves_no_room_is_named_before_anything_is_sampled(folder, tmp_path):
    long = SUITE[0] | {"id": "long", "messages": [{"role": "user", "content": "one and one " * 200}]}
    stage = Evaluate(policy="p", suites=(write_suite(tmp_path / "own.jsonl", [*SUITE, long]),), max_new=4)
    with pytest.raises(UserError, match="leaves no room") as error:
        stage.run(Inputs({"policy": (folder,)}), tmp_path, Runtime())
    assert error.value.where == "own/long"


def test_evaluate_stage_end_to_end(folder, tmp_path):
    """A random model answers a suite of each kind: the whole artefact appears and greedy sampling repeats itself."""
    paths = {one.name: str(tmp_path / f"{one.name}.jsonl") for one in tasks(tmp_path)}
    stage = Evaluate(policy="base", suites=tuple(paths.values()), limit=4, max_new=6)
    reports = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        metrics = stage.run(Inputs({"policy": (folder,)}), out, Runtime(device="cpu", precision="fp32"))
        reports.append((out / "items.jsonl").read_bytes())
    assert reports[0] == reports[1]
    assert metrics["items"] == 12.0 and metrics["tokens"] > 0 and metrics["flops"] > 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["sampling"]["max_new"] == 6 and 1 < summary["metrics"]["prose.perplexity"]["value"] < 1e6
    assert len((out / "samples.jsonl").read_text().splitlines()) == 12
