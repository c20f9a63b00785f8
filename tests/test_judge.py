"""Language models as judges: hand values, order, misreading, lying endpoints, cards, length-controlled win rates."""

import asyncio
import json
import random
from collections.abc import Mapping
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from endpoint import Raw, chat, endpoint

from posttrain import pipeline, recipe
from posttrain.errors import UserError
from posttrain.judge import card as cards
from posttrain.judge.asking import Asking, Kept, Reply, Scripted, checked
from posttrain.judge.base import Answered
from posttrain.judge.card import Card, Labelled, Thresholds
from posttrain.judge.llm import CLAMP, Compared, Criterion, Pairwise, Panel, Preferred, Rubric, letter_of
from posttrain.judge.winrate import win_rate
from posttrain.loading import load_model
from posttrain.pipeline import Runtime
from posttrain.render import load_chat
from posttrain.rows import Message, Messages, Pair, read_jsonl
from posttrain.sampler.asking import Weights
from posttrain.sampler.http import Client
from posttrain.sampler.server import Endpoint


def user(text: str) -> Messages:
    return (Message(role="user", content=text),)


def shown(question: Messages) -> tuple[str, str]:
    """(answer A, answer B) of a pairwise question."""
    text = question[0].content
    a = text.split("--- Answer A ---\n")[1].split("\n\n--- Answer B")[0]
    b = text.split("--- Answer B ---\n")[1].split("\n\n--- What counts")[0]
    return a, b


def good_words(question: Messages) -> str:
    a, b = shown(question)
    return "A" if a.count("good") > b.count("good") else "B" if b.count("good") > a.count("good") else "C"


ITEMS = [
    Compared(prompt=user("q1"), first="good", second="bad"),
    Compared(prompt=user("q2"), first="bad", second="good good"),
    Compared(prompt=user("q3"), first="same", second="equal"),
]


def compare(judge: Any, items: list[Compared] = ITEMS) -> list[Preferred]:
    return asyncio.run(judge.compare(items))


def test_words_in_both_orders() -> None:
    said = compare(Pairwise(Scripted(good_words)))
    assert [s.p for s in said] == [1.0, 0.0, 0.5]
    assert [(s.ab, s.ba) for s in said] == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]
    assert all(s.consistent for s in said)


def test_log_probs_by_hand() -> None:
    """AB: A .6 B .3 C .1 -> p_AB = .65. BA: A .2 B .7 C .1 -> p_BA = .25. p = (.65 + 1 - .25) / 2 = .7."""

    def say(question: Messages) -> Mapping[str, float]:
        first = shown(question)[0] == "good"
        return {"A": 0.6, "B": 0.3, "C": 0.1} if first else {"A": 0.2, "B": 0.7, "C": 0.1}

    (said,) = compare(Pairwise(Scripted(say)), ITEMS[:1])
    assert said.ab == pytest.approx(0.65) and said.ba == pytest.approx(0.25) and said.p == pytest.approx(0.7)
    (thought,) = compare(Pairwise(Scripted(say), thinks=True), ITEMS[:1])
    assert thought.p == CLAMP[1]


def test_a_judge_that_follows_the_order_says_nothing() -> None:
    """Always A, .9 and .8: inconsistent, p 0.5 whatever the average; the first place wins every decided ask."""
    said = compare(Pairwise(Scripted(lambda q: {"A": 0.9, "B": 0.1})))
    assert [(s.p, s.consistent) for s in said] == [(0.5, False)] * 3
    rows = [Labelled(prompt=i.prompt, first=i.first, second=i.second, labels=("first",)) for i in ITEMS]
    card = cards.card("j", rows, said, data="d", thresholds=Thresholds())
    assert card.primacy == 1.0 and card.consistency == 0.0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), (" (B).", "B"), ("**C**", "C"), ("Answer: A", "A"), ("The better answer is B.", "B"), ("b", ""),
        ("A is better", "A"), ("tie", "C"), ("Both are equal", "C"), ("A good answer is", ""), ("a", ""), ("", ""),
        ("I cannot say", ""), ("B-", "B"), ("BA", ""), ("Answer A is better", "A"),
    ],
)  # fmt: skip
def test_letters(text: str, letter: str) -> None:
    assert letter_of(text, ("A", "B", "C")) == letter


def test_what_cannot_be_read_is_counted_apart() -> None:
    said = compare(Pairwise(Scripted(lambda q: "hm" if shown(q)[0] == "good" else good_words(q))))
    assert said[0].p is None and said[0].problems == ("unreadable",)
    assert said[1].p == 0.0


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        ((-1.5, -1.5, -1.5), "equal"), ((0.0, 0.0), "impossible"), ((0.5, -1.0), "impossible"),
        ((float("nan"), -1.0), "impossible"), ((-float("inf"), -float("inf")), "unreadable"), ((-0.1, -2.5), ""),
    ],
)  # fmt: skip
def test_log_probs_that_cannot_be_true(scores: tuple[float, ...], problem: str) -> None:
    (found,) = checked([Reply(text="", options=scores)], "j")
    assert found.problem == problem


def test_an_endpoint_that_lies_every_time_is_refused() -> None:
    equal = [Reply(text="", options=(-1.0, -1.0))]
    fine = [Reply(text="", options=(-1.0, -1.5))]
    assert [r.problem for r in checked(equal * 3 + fine * 7, "j")].count("equal") == 3
    with pytest.raises(UserError, match="same log-probability"):
        checked(equal * 6 + fine * 4, "j")
    with pytest.raises(UserError, match="does not answer"):
        checked([Reply(text="", problem="unanswered", why="stalled")] * 8, "j")


def test_rubric_by_hand() -> None:
    """Scale 1 to 5, chances .5 on 4 and .25 on 5 and 3: expected 4, rescaled 3/4. Words: "4" is the same."""
    item = Answered(prompt=user("q"), answer="x", truth={"reference": "the right one"})
    rubric = Rubric(Scripted(lambda q: {"4": 0.5, "5": 0.25, "3": 0.25}), scale=(1, 5))
    (verdict,) = asyncio.run(rubric.score([item]))
    assert verdict.score == pytest.approx(0.75)
    for text, score in (("4", 0.75), ("Score: 4.", 0.75), ("9", None), ("4.5", None), ("good", None)):
        (verdict,) = asyncio.run(Rubric(Scripted(lambda q, t=text: t), scale=(1, 5), log_probs=False).score([item]))
        assert verdict.score == score, text
    with pytest.raises(UserError, match="scale"):
        Rubric(Scripted(lambda q: ""), scale=(5, 5))


def test_references_and_criteria_are_shown() -> None:
    asked: list[str] = []
    item = Compared(prompt=user("q"), first="a", second="b", truth={"reference": "forty-two"})
    criteria = [Criterion("kind", "Which is kinder?"), Criterion("short", "Which is shorter?", weight=3.0)]
    judge = Pairwise(Scripted(lambda q: asked.append(q[0].content) or "A"), criteria=criteria)
    items = [item] + [Compared(prompt=user(f"q{n}"), first="a", second="b") for n in range(400)]
    names = [s.detail["criterion"] for s in compare(judge, items)]
    assert "forty-two" in asked[0] and "forty-two" not in asked[1]
    assert 0.65 < names.count("short") / len(names) < 0.85
    turned = [i.model_copy(update={"first": i.second, "second": i.first}) for i in items]
    assert [judge.criterion(i).name for i in turned] == names
    for text, s in zip(asked, names):
        assert {"kind": "kinder", "short": "shorter"}[s] in text


def test_panels_average_and_leave_out_the_silent() -> None:
    loud, other, silent = (
        Pairwise(Scripted(s, str(n))) for n, s in enumerate([good_words, lambda q: "C", lambda q: "?"])
    )
    said = compare(Panel([loud, other, silent]))
    assert [s.p for s in said] == [0.75, 0.25, 0.5] and said[0].problems == ("unreadable",) * 2
    assert said[0].consistent
    assert compare(Panel([silent, silent]))[0].p is None
    with pytest.raises(UserError, match="two judges"):
        Panel([loud])


def test_replies_are_kept_by_content(tmp_path: Path) -> None:
    asked: list[Messages] = []
    script = Scripted(lambda q: asked.append(q) or "A")
    kept = Kept(script, tmp_path / "replies.db", price=(1e6, 2e6))
    compare(Pairwise(kept))
    assert (kept.asked, kept.reused, kept.drawn, kept.cost) == (6, 0, 6, 12.0)
    compare(Pairwise(kept))
    assert (kept.asked, kept.reused, len(asked)) == (6, 6, 6)
    kept.close()
    again = Kept(script, tmp_path / "replies.db")
    compare(Pairwise(again))
    assert (again.asked, again.reused) == (0, 6)
    asyncio.run(again.ask([user("new"), user("new")], Asking()))
    assert (again.asked, again.reused) == (1, 7)  # the same twice in one call is asked once
    (tmp_path / "broken.db").write_text("this is no database, it only looks like a file" * 30)
    with pytest.raises(UserError, match="cannot keep"):
        Kept(script, tmp_path / "broken.db")


def test_a_local_model_scores_whole_answers(tmp_path: Path) -> None:
    """Each option's log-probability is that of its tokens and the stop token, by a plain forward pass."""
    folder = tiny.folder(tmp_path, "qwen3")
    chat_, hf = load_chat(folder), tiny.model("qwen3")
    weights = Weights(load_model(folder, Runtime(precision="fp32", device="cpu"), train=False), chat_, "tiny")
    questions = [user("the user"), user("asks the assistant and the user"), user("one or two")]
    options = ("A", "10", "the user")
    for question, row in zip(questions, asyncio.run(weights.options(questions, options))):
        for option, told in zip(options, row):
            prompt, ids = chat_.continuation(question, Message(role="assistant", content=option))
            with torch.no_grad():
                logp = torch.log_softmax(hf(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1], -1)
            assert told == pytest.approx(float(logp.gather(1, torch.tensor(ids)[:, None]).sum()), abs=1e-3)
    (reply, long) = asyncio.run(weights.ask([questions[0], user("x" * 4000)], Asking(options=("A", "B"))))
    assert reply.text in ("A", "B") and long.problem == "unanswered"
    (words,) = asyncio.run(weights.ask(questions[:1], Asking(max_new=3)))
    assert words.options is None and words.drawn <= 3


# ---- cards


def labelled(n: int, seed: int = 0) -> list[Labelled]:
    """Answers of random lengths; people prefer the one with more "good" in it; a tenth are ties."""
    rng, rows = random.Random(seed), []
    for k in range(n):
        a, b = ("good " * rng.randint(0, 3) + "word " * rng.randint(0, 12) for _ in range(2))
        label = (
            "first" if a.count("good") > b.count("good") else "second" if b.count("good") > a.count("good") else "tie"
        )
        rows.append(Labelled(id=str(k), prompt=user(f"q{k}"), first=a or "-", second=b or "-", labels=(label,) * 3))
    return rows


def examined(judge: Any, rows: list[Labelled], **more: Any) -> Card:
    return asyncio.run(cards.examine(judge, rows, data="made", **more))


def test_a_good_judge_passes_and_bad_ones_say_why() -> None:
    rows = labelled(120)
    good = examined(Pairwise(Scripted(good_words)), rows)
    assert good.passed and good.kappa[0] == 1.0 and good.consistency == 1.0 and good.people == 1.0
    assert good.accuracy[0] == 1.0 and good.longer[0] < 1.0 and good.gain[1] > 0
    cards.may_label(good)

    def longer(question: Messages) -> str:
        a, b = shown(question)
        return "A" if len(a) > len(b) else "B"

    said = examined(Pairwise(Scripted(longer)), rows)
    assert not said.passed and any("longer" in f for f in said.failed) and said.gain[0] == pytest.approx(0, abs=0.02)
    first = examined(Pairwise(Scripted(lambda q: "A")), rows)
    assert any("consistency 0.00" in f for f in first.failed)
    mumbling = examined(Pairwise(Scripted(lambda q: "well")), rows)
    assert mumbling.unread == 1.0 and mumbling.problems == {"unreadable": 240}
    few = examined(Pairwise(Scripted(good_words)), rows[:20])
    assert any("fewer" in f for f in few.failed)
    with pytest.raises(UserError, match="may not label"):
        cards.may_label(first)
    cards.may_label(first, anyway="a demonstration")
    assert "may label      no" in first.lines()[-1] and not any("cost" in line for line in first.lines())
    assert "cost           1.25" in first.model_copy(update={"cost": 1.25}).lines()


def test_card_by_hand() -> None:
    """Truth f f s t, judge f s s f. Agreement 2/4; chance (2*2 + 1*2 + 1*0)/16 = 6/16; kappa (.5 - .375) / .625 = .2.

    Decided pairs: right 1, 0, 1 = 2/3. The longer one: f (longer first) right, s wrong, tie half -> .5.
    """
    texts = [("aaa", "b"), ("a", "bbb"), ("a", "b"), ("a", "b")]
    truth: Any = ("first", "first", "second", "tie")
    rows = [
        Labelled(prompt=user(str(n)), first=a, second=b, labels=(t,)) for n, ((a, b), t) in enumerate(zip(texts, truth))
    ]
    said = [Preferred(p=p, consistent=True, ab=p, ba=1 - p) for p in (0.9, 0.2, 0.1, 0.8)]
    card = cards.card("j", rows, said, data="d", thresholds=Thresholds())
    assert card.kappa[0] == pytest.approx(0.2)
    assert card.accuracy[0] == pytest.approx(2 / 3) and card.longer[0] == pytest.approx(0.5)


def test_labelled_rows_from_pairs(tmp_path: Path) -> None:
    """The chosen answer stands first in about half of them; the label goes with it."""
    pairs = [
        Pair(id=str(n), prompt=user(f"q{n}"), chosen=Message(role="assistant", content=f"yes {n}"),
             rejected=Message(role="assistant", content=f"no {n}"))
        for n in range(200)
    ]  # fmt: skip
    from posttrain.rows import write_jsonl

    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    rows = cards.read_labelled(tmp_path / "pairs.jsonl")
    assert all((r.first if r.labels == ("first",) else r.second).startswith("yes") for r in rows)
    assert 0.35 < sum(r.labels == ("first",) for r in rows) / 200 < 0.65
    write_jsonl(tmp_path / "labelled.jsonl", rows)
    assert cards.read_labelled(tmp_path / "labelled.jsonl") == rows
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no labelled pairs"):
        cards.read_labelled(tmp_path / "empty.jsonl")


# ---- stages


STAGES = """
stages:
  base: {{type: base_model, model: {model}}}
  votes: {{type: pairs, path: {pairs}, holdout: 0.1}}
  card: {{type: judge_card, {who}, labelled: {labelled}, thresholds: {{items: 20}}}}
  ai: {{type: judge_pairs, judge: card, pairs: votes{anyway}}}
"""


def recipe_of(folder: Path, who: str, anyway: str = "") -> Any:
    (folder / "r.yaml").write_text(
        STAGES.format(
            model=folder / "model",
            pairs=folder / "pairs.jsonl",
            labelled=folder / "labelled.jsonl",
            who=who,
            anyway=f", anyway: {anyway}" if anyway else "",
        )
    )
    return recipe.load(str(folder / "r.yaml"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from posttrain.rows import write_jsonl

    config = tiny.folder(tmp_path / "model", "qwen3") / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 256', '"max_position_embeddings": 4096'))
    rows = [r for r in labelled(60) if len(r.first) < 90 and len(r.second) < 90]
    write_jsonl(tmp_path / "labelled.jsonl", rows)
    pairs = [
        Pair(id=r.id, prompt=r.prompt, chosen=Message(role="assistant", content=r.first),
             rejected=Message(role="assistant", content=r.second))
        for r in labelled(40, seed=1) if r.first != r.second
    ]  # fmt: skip
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    return tmp_path


def protocol(path: str, body: Any, number: int) -> Any:
    """The good judge as an endpoint, with log-probabilities."""
    said = good_words((Message(role="user", content=body["messages"][0]["content"]),))
    return chat(said, [{o: log(0.9) if o == said else log(0.05) for o in "ABC"}])


def test_a_scripted_endpoint_is_accepted_and_labels(data: Path) -> None:
    with endpoint(protocol) as fake:
        loaded = recipe_of(data, f"url: {fake.url}, model: script, price: [1.0, 1.0]")
        outcome = pipeline.run(loaded.stages, data / "runs", Runtime())
        asked = len(fake.asked)
        assert Card.model_validate_json((outcome.folders["card"] / "card.json").read_text()).passed
        pipeline.run(loaded.stages, data / "runs", Runtime())
        assert len(fake.asked) == asked
    pairs = list(read_jsonl(outcome.folders["ai"] / "train.jsonl", Pair))
    assert pairs and all(p.source == "judge" and p.soft >= 0.5 for p in pairs)
    for p in pairs:
        a, b = p.chosen.content.count("good"), p.rejected.content.count("good")
        assert a > b if p.soft > 0.5 else a == b
    record = json.loads((outcome.folders["ai"] / "record.json").read_text())
    assert record["metrics"]["turned"] > 0 and record["metrics"]["accepted_anyway"] == 0


def test_a_weak_judge_is_refused_unless_the_recipe_says_why(data: Path) -> None:
    """A random model of a few thousand weights."""
    loaded = recipe_of(data, "policy: base")
    with pytest.raises(UserError, match="may not label"):
        pipeline.run(loaded.stages, data / "runs", Runtime())
    loaded = recipe_of(data, "policy: base", anyway="'to show what it does'")
    outcome = pipeline.run(loaded.stages, data / "runs", Runtime())
    record = json.loads((outcome.folders["ai"] / "record.json").read_text())
    assert record["metrics"]["accepted_anyway"] == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (chat("A", [{"A": -1.1, "B": -1.1, "C": -1.1}]), "same log-probability"),
        (chat("A", [{"A": 0.0, "B": 0.0, "C": 0.0}]), "cannot be any"),
        (Raw(200, "garbage"), "does not answer"),
        (Raw(200, "{}", delay=2.0), "does not answer"),
        (Raw(401, '{"error": {"message": "no such key"}}'), "no such key"),
    ],
    ids=["all equal", "all certain", "garbage", "stalls", "wrong key"],
)  # fmt: skip
def test_endpoints_that_lie_or_fail_are_refused(answer: Any, said: str) -> None:
    with endpoint(lambda *_: answer) as fake:
        client = Client([fake.url], tries=2, pause=0.01, timeout=0.2)
        with pytest.raises(UserError, match=said):
            examined(Pairwise(Kept(Endpoint(client, "m"))), labelled(20))


def test_an_endpoint_that_refuses_gets_a_bad_card() -> None:
    with endpoint(lambda *_: chat("I'm sorry, I can't compare these.")) as fake:
        card = examined(Pairwise(Kept(Endpoint(Client([fake.url]), "m"))), labelled(60))
    assert not card.passed and card.problems == {"unreadable": 120}


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("url: http://x/v1", "needs model"), ("policy: base, url: http://x/v1, model: m", "one of them"),
        ("policy: base, criteria: ['']", "empty criterion"), ("panel: [card], policy: base", "one of them"),
    ],
)  # fmt: skip
def test_bad_recipes(data: Path, who: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe_of(data, who)


def test_a_panel_is_examined_and_labels(data: Path) -> None:
    """Two good judges and one that always takes the first: each has a card, the panel has its own, their mean labels.

    The third is inconsistent and gives one half, so where the others are sure of 1 the panel says 5/6.
    """
    with endpoint(protocol) as good, endpoint(lambda *_: chat("A")) as loud:
        (data / "r.yaml").write_text(
            f"""
stages:
  votes: {{type: pairs, path: {data}/pairs.jsonl, holdout: 0.1}}
  one: {{type: judge_card, url: {good.url}, model: good, log_probs: false, labelled: {data}/labelled.jsonl}}
  two: {{type: judge_card, url: {loud.url}, model: loud, log_probs: false, labelled: {data}/labelled.jsonl}}
  three: {{type: judge_card, url: {good.url}, model: fine, log_probs: false, labelled: {data}/labelled.jsonl}}
  both: {{type: judge_card, panel: [one, two, three], labelled: {data}/labelled.jsonl, thresholds: {{items: 20}}}}
  ai: {{type: judge_pairs, judge: both, pairs: votes}}
"""
        )
        outcome = pipeline.run(recipe.load(str(data / "r.yaml")).stages, data / "runs", Runtime())
    one, two, both = (
        Card.model_validate_json((outcome.folders[n] / "card.json").read_text()) for n in ("one", "two", "both")
    )
    assert one.kappa[0] == 1.0 and two.consistency == 0.0 and not two.passed
    assert both.passed and both.judge.startswith("panel of good at ") and "loud at " in both.judge
    pairs = list(read_jsonl(outcome.folders["ai"] / "train.jsonl", Pair))
    assert {round(p.soft, 6) for p in pairs} == {0.5, 0.833333}
    record = json.loads((outcome.folders["both"] / "record.json").read_text())
    assert record["metrics"]["asked"] == 3 * one.n * 2
    assert len(list(outcome.folders["both"].glob("replies-*.db"))) == 3


def test_a_judge_that_cannot_be_read_labels_nothing(data: Path) -> None:
    with endpoint(lambda *_: chat("Both have their merits.")) as fake:
        loaded = recipe_of(data, f"url: {fake.url}, model: m", anyway="a test")
        with pytest.raises(UserError, match=r"none of \d+ pairs a label"):
            pipeline.run(loaded.stages, data / "runs", Runtime())


def test_a_reference_goes_with_its_pair() -> None:
    said = [Message(role="assistant", content=c) for c in ("yes", "no")]
    pair = Pair(id="1", prompt=user("q"), chosen=said[0], rejected=said[1], meta={"reference": "yes, always"})
    assert cards.from_pair(pair).truth == {"reference": "yes, always"}
    assert cards.from_pair(pair.model_copy(update={"meta": {}})).truth == {}


# ---- win rates


def test_win_rate_is_the_logistic_fit_of_statsmodels() -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(0)
    longer = rng.normal(30, 80, 400)
    x = np.tanh(longer / longer.std())
    p = (rng.random(400) < 1 / (1 + np.exp(-(0.4 + 1.2 * x)))).astype(float)
    fit = sm.GLM(p, np.column_stack([np.ones(400), x]), family=sm.families.Binomial()).fit()
    found = win_rate(p, longer)
    assert found.controlled.value == pytest.approx(1 / (1 + exp(-fit.params[0])), abs=1e-3)
    assert found.phi.value == pytest.approx(fit.params[1], abs=1e-2)
    low, high = fit.conf_int()[0]
    assert found.controlled.low == pytest.approx(1 / (1 + exp(-low)), abs=0.02)
    assert found.controlled.high == pytest.approx(1 / (1 + exp(-high)), abs=0.02)
    assert found.raw.value == pytest.approx(p.mean())


def test_length_alone_wins_nothing_when_controlled() -> None:
    """Wins only because it is longer: raw rate high, controlled near one half. Swapping the sides mirrors both."""
    rng = np.random.default_rng(1)
    longer = rng.normal(100, 60, 600)
    p = (rng.random(600) < 1 / (1 + np.exp(-3 * np.tanh(longer / longer.std())))).astype(float)
    found, mirrored = win_rate(p, longer), win_rate(1 - p, -longer)
    assert found.raw.value > 0.8 and found.controlled.low < 0.5 < found.controlled.high
    assert mirrored.controlled.value == pytest.approx(1 - found.controlled.value, abs=1e-9)
    assert found.phi.low > 0


def test_one_sided_wins_are_finite_and_bad_input_is_refused() -> None:
    found = win_rate([1.0] * 30, np.linspace(-1, 1, 30))
    assert 0.95 < found.controlled.value < 1.0 and found.raw.value == 1.0
    flat = win_rate([0.5] * 10, [0.0] * 10)
    assert flat.controlled.value == 0.5
    for p, d in (([], []), ([2.0], [0.0]), ([0.5], [0.0, 1.0])):
        with pytest.raises(ValueError):
            win_rate(p, d)
