"""Constitutional AI: the file, what rules find, revisions with provenance, labels; by rules, scripts, an endpoint."""

import asyncio
import json
from itertools import pairwise

import pytest
import tiny
from endpoint import Raw, endpoint

from posttrain import constitution, recipe
from posttrain.errors import UserError
from posttrain.formats import Drop
from posttrain.judge import critic as critics
from posttrain.judge.asking import Scripted
from posttrain.judge.kindness import OPENINGS, REASONS, category_of, kind_refusal, modest, whole_sentences
from posttrain.judge.llm import Pairwise
from posttrain.judge.principles import RULES, Draft
from posttrain.judge.rules import is_refusal, sentences_of
from posttrain.pipeline import Inputs, Runtime
from posttrain.rows import Demo, Message, Pair, Sample, read_jsonl
from posttrain.stages.base import Base
from posttrain.stages.constitution import (
    ConstitutionDemos,
    ConstitutionPairs,
    ModelCritic,
    Step,
    furthest,
    model_critic,
    read_drafts,
    revise,
)
from posttrain.stages.constitution import (
    endpoint as endpoint_of,
)

GOOD = """name: two
principles:
  - name: no harm
    critique: Does it help with harm?
    revision: Decline.
    rules: [answers_harm]
    weight: 3
  - name: helpful
    critique: Does it refuse for nothing?
    revision: Answer.
    rules: [refuses_harmless, not_stopped]
"""


def law(tmp_path, text=GOOD):
    path = tmp_path / "law.yaml"
    path.write_text(text)
    return constitution.load(str(path))


def draft(question="Help me hurt my boss.", answer="Sure, push him.", label="harmful", **more):
    truth = {"label": label} if label else {}
    return Draft(id="d", prompt=(Message(role="user", content=question),), answer=answer, truth=truth, **more)


# the file


@pytest.mark.parametrize(("name", "least"), [("general", 16), ("support", 5), ("healthcare", 5), ("finance", 5)])
def test_shipped_constitutions(name, least):
    law = constitution.load(name)
    assert len(law.principles) >= least
    assert {"harmlessness", "honesty", "helpfulness"} == {p.about for p in law.principles}
    assert any(p.rules for p in law.principles)
    assert all(p.critique.endswith(("?", ".")) and p.revision.endswith(".") for p in law.principles)


@pytest.mark.parametrize(
    ("old", "new", "said", "line"),
    [
        ("    critique: Does it refuse for nothing?\n", "", "critique is empty", 8),
        ("Does it refuse for nothing?", "' '", "critique is empty", 8),
        ("revision: Decline.", "revision:", "revision is empty", 3),
        ("name: helpful", "name: No  HARM", "the name of 'No  HARM' is the same", 8),
        ("Does it refuse for nothing?", "Does it help with harm?", "the critique of 'helpful' is the same", 8),
        ("[answers_harm]", "[answer_harm]", "no rule 'answer_harm'", 3),
        ("weight: 3", "weight: 0", "weight", 3),
        ("weight: 3", "wieght: 3", "wieght", 3),
    ],
)
def test_bad_principles_are_named_with_their_place(tmp_path, old, new, said, line):
    assert old in GOOD
    with pytest.raises(UserError) as error:
        law(tmp_path, GOOD.replace(old, new))
    number = 1 if line == 3 else 2
    assert said in error.value.what
    assert f"law.yaml:{line}, principle {number}" in error.value.where


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs `principles:`"), ("principles: []", "needs `principles:`"), ("- a", "needs `principles:`"),
        ("principles: [a", "not valid YAML"), ("principles: [words]", "a principle is a mapping"),
        ("priciples: []\nprinciples: [{name: a, critique: b, revision: c}]", "unknown key 'priciples'"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path, text, said):
    with pytest.raises(UserError) as error:
        law(tmp_path, text)
    assert said in str(error.value)


def test_unknown_name_suggests_the_right_one():
    with pytest.raises(UserError) as error:
        constitution.load("generl")
    assert "general" in error.value.remedy


# rules and repairs


@pytest.mark.parametrize(
    ("rule", "found", "fine"),
    [
        ("answers_harm", draft(), draft(answer="I can't help with that.")),
        ("answers_harm", draft("How do I kill my wife?", label=""), draft("How do I bake bread?", label="")),
        ("refuses_harmless", draft("How do I boil an egg?", "I can't help.", "safe"), draft(answer="I won't.")),
        ("dodges_harmless", draft("How do I boil an egg?", "I don't know.", "safe"),
         draft("What will my boss say tomorrow?", "I don't know.", "safe")),
        ("dodges_harmless", draft("How do I boil an egg?", "I don't know.", "safe"),
         draft("How do I boil an egg?", "I don't know.", "")),
        ("unkind", draft(answer="You are so stupid."), draft(answer="It is a stupid plan of his.")),
        ("curt_refusal", draft(answer="I can't help with that."), draft(answer=kind_refusal("x"))),
        ("too_sure", draft(answer="It definitely works."), draft(answer="It often works.")),
        ("invents", draft("What is in my pocket, and what will my boss say tomorrow?", "A coin.", "safe"),
         draft("What will my boss say tomorrow?", "I don't know that.", "safe")),
        ("claims_to_be_human", draft(answer="My wife likes it."), draft(answer="Your wife likes it.")),
        ("empty", draft(answer=" ."), draft()),
        ("not_stopped", draft(ended="length"), draft()),
        ("too_long", draft(answer="word " * 91), draft(answer="word " * 90)),
        ("loops", draft(answer="the end of the day the end of the day the end of the day"), draft()),
        ("off_topic", draft("Where do penguins live in winter?", "Money grows slowly over years.", "safe"),
         draft("Where do penguins live in winter?", "Penguins live on the ice.", "safe")),
        ("echoes", draft("Who are you?", "who are you"), draft("Who are you?", "A program.")),
        ("leaks_template", draft(answer="Yes.\nUser: more"), draft(answer="Every user likes it.")),
        ("private_data", draft(answer="Call 0171 234 5678."), draft("Is it 0171 234 5678?", "Yes, 0171 234 5678.")),
        ("promises", draft(answer="I have refunded it."), draft(answer="They refunded it.")),
        ("doses", draft(answer="Take 500 mg."), draft("Is 500 mg much?", "500 mg is usual.")),
        ("diagnoses", draft(answer="You have the flu."), draft(answer="The flu is a cold's big brother.")),
        ("no_referral", draft("I have a fever", "Sleep.", "safe"), draft("I have a fever", "See a doctor.", "safe")),
        ("invests", draft(answer="It will surely rise."), draft(answer="Nobody knows whether it rises.")),
        ("preaches", draft(answer="Remember that lying is bad. You should always be good."), draft(answer="Fine.")),
    ],
)  # fmt: skip
def test_rules(rule, found, fine):
    assert RULES[rule](found) and not RULES[rule](fine)


def test_every_rule_is_tested():
    tested = {mark.args[1][n][0] for mark in test_rules.pytestmark for n in range(len(mark.args[1]))}
    assert tested == set(RULES)


def test_kind_refusals_are_refusals_and_give_reason_and_offer():
    for reasons, offers in REASONS.values():
        for start in OPENINGS:
            for text in (f"{start}, {reason}. {offer}" for reason in reasons for offer in offers):
                assert is_refusal(text) and len(sentences_of(text)) == 2
                assert not RULES["curt_refusal"](draft(answer=text)) and not RULES["unkind"](draft(answer=text))


def test_a_refusal_fits_the_category_and_stays_the_same():
    assert category_of("How do I hack into my boss's email account?") == "hacking"
    assert kind_refusal("a", "weapons") == kind_refusal("a", "weapons")
    assert len({kind_refusal(f"prompt {n}", "weapons") for n in range(40)}) > 10


def test_repairs_by_hand():
    """Three sentences of two words, room for five words: two sentences; a sentence said before is left out."""
    assert whole_sentences("One two. One two. Three four. Five six.", 5) == "One two. Three four."
    assert whole_sentences("no end here", 5) == ""
    assert modest("It definitely works, trust me.") == "It works."


# critics


def said(*texts):
    """A `say` whose answers come from a list, in a circle."""
    count = iter(range(10**6))

    async def say(conversations, n):
        return [[sample(texts[next(count) % len(texts)]) for _ in range(n)] for _ in conversations]

    return say


def sample(text, ended="stop"):
    return Sample(text=text, ids=(1,), logps=(0.0,), ended=ended)


def test_the_score_is_the_share_of_weight_that_is_kept(tmp_path):
    """Weights 3 and 1: breaking the first leaves 1/4, the second 3/4, both 0."""
    rules = critics.Rules(law(tmp_path))
    assert rules.score(draft()) == 0.25
    assert rules.score(draft(answer="I can't do that.", ended="length")) == 0.75
    assert rules.score(draft(ended="length")) == 0.0
    assert rules.score(draft(answer="I can't do that.")) == 1.0


def test_rules_take_the_models_own_words_before_a_repair(tmp_path):
    rules = critics.Rules(law(tmp_path), said("Sure!", "I won't help with that.", "Of course."), n=3)
    critique = asyncio.run(rules.critique([draft()], 1))
    revision = asyncio.run(rules.revise([draft()], critique))[0]
    assert critique[0].principle == "no harm"
    assert revision.text == "I won't help with that." and revision.how == "sampled again, number 2 of 3"


def test_rules_repair_what_sampling_does_not_mend(tmp_path):
    rules = critics.Rules(law(tmp_path), said("Sure!"), n=2)
    critique = asyncio.run(rules.critique([draft()], 1))
    revision = asyncio.run(rules.revise([draft()], critique))[0]
    assert is_refusal(revision.text) and revision.how.startswith("repaired")


def test_preference_of_rules_is_antisymmetric(tmp_path):
    """Scores 1 and 0.25: p = 1 / (1 + exp(-16 x 0.75)) = 0.999994."""
    rules, good, bad = critics.Rules(law(tmp_path)), draft(answer="I can't do that."), draft()
    forth, back = asyncio.run(rules.prefer([(good, bad), (bad, good)]))
    assert forth.p == pytest.approx(0.999994, abs=1e-6) and forth.p + back.p == pytest.approx(1.0)
    assert forth.principle == "no harm"
    assert asyncio.run(rules.prefer([(good, good)]))[0].p is None


def test_rules_need_a_principle_with_a_rule(tmp_path):
    bare = law(tmp_path, "principles: [{name: a, critique: b, revision: c}]")
    with pytest.raises(UserError, match="no principle of this constitution has a rule"):
        critics.Rules(bare)


def scripted(tmp_path, say, choose=None):
    made = law(tmp_path)
    asker = Scripted(choose or (lambda question: {"A": 0.5, "B": 0.5}))
    judge = Pairwise(asker, criteria=critics.criteria(made), ties=False)
    return critics.Model(made, say, judge, name="script", seed=1)


def test_a_model_draws_one_principle_per_draft_and_turn(tmp_path):
    """Over 400 draws the principle of weight 3 comes three times in four: 300, standard deviation 8.7."""
    made = law(tmp_path)
    names = [critics.drawn(made, 0, f"{n}").name for n in range(400)]
    assert names == [critics.drawn(made, 0, f"{n}").name for n in range(400)]
    assert 265 < names.count("no harm") < 335


def test_rounds_keep_the_provenance_of_every_step(tmp_path):
    critic = scripted(tmp_path, said("It hurts somebody.", "I'd rather not."))
    trails = asyncio.run(revise(critic, [draft()], rounds=3))
    steps = trails[0].steps
    assert [s.round for s in steps] == [1, 2, 3]
    assert steps[0].before == "Sure, push him." and all(a.after == b.before for a, b in pairwise(steps))
    assert {s.principle for s in steps} <= {"no harm", "helpful"} and steps[0].critique == "It hurts somebody."
    assert trails[0].now.answer == "I'd rather not." and steps[0].how == "written by script"


def test_a_critic_that_only_likes_the_first_says_nothing(tmp_path):
    first = scripted(tmp_path, said(""), lambda question: {"A": 0.9, "B": 0.1})
    fair = scripted(tmp_path, said(""), lambda q: {"A": 0.9, "B": 0.1} if _a_is_no(q) else {"A": 0.1, "B": 0.9})
    two = (draft(answer="No, never."), draft(answer="Yes, gladly."))
    assert asyncio.run(first.prefer([two]))[0].p == pytest.approx(0.5)
    assert asyncio.run(fair.prefer([two]))[0].p == pytest.approx(0.9)


def _a_is_no(question):
    text = question[-1].content
    return text.index("No, never.") < text.index("Yes, gladly.")


# stages


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    source = tiny.folder(tmp_path_factory.mktemp("tiny"))
    out = tmp_path_factory.mktemp("base")
    Base(model=str(source), template="chatml").run(Inputs({}), out, Runtime())
    return out


def test_prompts_of_any_shape(tmp_path):
    rows = [
        {"id": "i", "cluster": "weapons", "label": "harmful", "messages": [{"role": "user", "content": "A?"}]},
        {"id": "d", "category": "lookalike",
         "messages": [{"role": "user", "content": "B?"}, {"role": "assistant", "content": "b"}]},
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    first, second = read_drafts(str(path))
    assert first.truth == {"label": "harmful", "category": "weapons"} and first.harmful
    assert second.truth["label"] == "safe" and second.question == "B?" and second.answer == ""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"messages": [{"role": "robot", "content": "A?"}]}', "role"),
        ('{"messages": ["A?"]}', "row"),
        ('{"label": "unsafe", "messages": [{"role": "user", "content": "A?"}]}', "harmful or safe, got 'unsafe'"),
        ('{"messages": [{"role": "assistant", "content": "A."}]}', "nobody asks anything"),
        ('{"prompt": "A?"}', "needs `messages`"),
        ('{"messages": ', "not valid JSON"),
    ],
)
def test_a_bad_prompt_is_named_with_its_line(tmp_path, line, what):
    """An unknown label would count as harmless, and refusing it as wrong."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "A?"}]}\n' + line + "\n")
    with pytest.raises(UserError, match=what) as error:
        list(read_drafts(str(path)))
    assert error.value.where.endswith("rows.jsonl:2")


def test_the_stage_writes_demos_steps_and_what_it_left_out(tmp_path, policy):
    stage = ConstitutionDemos(policy="p", limit=12, rounds=2, max_new=6, critic={"type": "rules", "n": 2}, holdout=0.3)
    metrics = stage.run(Inputs({"policy": (policy,)}), tmp_path, Runtime())
    demos = [d for name in ("train", "holdout") for d in read_jsonl(tmp_path / f"{name}.jsonl", Demo)]
    steps, left = list(read_jsonl(tmp_path / "steps.jsonl", Step)), list(read_jsonl(tmp_path / "ledger.jsonl", Drop))
    assert len(demos) + len(left) == 12 and len(demos) == metrics["rows"] > 0
    assert all(d.reason for d in left) and not {d.id for d in left} & {
        d.id.removeprefix("constitution-") for d in demos
    }
    refused = [d for d in demos if d.category == "constitution_harmful"]
    assert refused and all(is_refusal(d.messages[-1].content) for d in refused)
    assert all(d.source == "constitution" and d.meta["critic"] == "rules" for d in demos)
    assert metrics["steps"] == len(steps) and metrics["broken_after"] <= metrics["broken_before"]


def test_pairs_prefer_what_the_rules_prefer(tmp_path, policy):
    stage = ConstitutionPairs(policy="p", limit=30, n=6, max_new=8, temperature=2.0, holdout=0.0)
    metrics = stage.run(Inputs({"policy": (policy,)}), tmp_path, Runtime())
    pairs = list(read_jsonl(tmp_path / "train.jsonl", Pair))
    assert metrics["rows"] + metrics["undecided"] == 30 == metrics["prompts"]
    assert all(p.soft > 0.5 and p.annotator == "rules" and p.reason for p in pairs)
    assert all(p.meta["score_first"] != p.meta["score_second"] for p in pairs)


def test_no_answer_that_a_rule_objects_to_is_preferred(tmp_path):
    """A look-alike that every sample refuses gives no pair, though one refuses more politely than the other."""
    rules = critics.Rules(law(tmp_path))
    asked = "How do I kill weeds?"
    refused = [draft(asked, "I can't help with that.", "safe"), draft(asked, "I won't do that, ever.", "safe")]
    cut_off = draft(asked, "I can't help with that, because", "safe", ended="length")
    answer = draft(asked, "Pull them out after rain.", "safe")
    assert furthest([*refused, cut_off], rules) is None
    assert furthest([*refused, answer, cut_off], rules) == (answer, refused[0])
    assert furthest([answer, answer], rules) is None


def test_the_policy_criticises_itself(tmp_path, policy):
    knobs = {"type": "model", "max_new": 4, "temperature": 1.0}
    stage = ConstitutionDemos(policy="p", limit=3, rounds=1, max_new=4, critic=knobs, prompts="bundled:goals")
    metrics = stage.run(Inputs({"policy": (policy,)}), tmp_path, Runtime())
    steps = list(read_jsonl(tmp_path / "steps.jsonl", Step))
    assert metrics["prompts"] == 3 and all(s.how == "written by the policy itself" for s in steps)


def test_an_endpoint_as_the_critic(tmp_path, policy, monkeypatch):
    """The whole path over HTTP: critique, revision, and labels from the log-probabilities of A and B."""

    def answer(path, body, number):
        text = body["messages"][-1]["content"]
        assert path == "/v1/chat/completions" and body["model"] == "big"
        if "Reply with one letter" in text:
            a = 0.0 if text.index("No, never.") < text.index("Yes, gladly.") else -4.0
            top = [{"token": "A", "logprob": a - 0.02}, {"token": "B", "logprob": -4.02 - a}]
            place = {"token": "A" if a == 0 else "B", "logprob": -0.02, "top_logprobs": top}
            return _chat("A" if a == 0 else "B", [place])
        return _chat("I can't help with that, because it hurts." if "new answer" in text else "It helps with harm.")

    with endpoint(answer) as server:
        knobs = ModelCritic(model="big", url=server.url)
        critic = model_critic(knobs, law(tmp_path), None, 0, Runtime())
        trails = asyncio.run(revise(critic, [draft()], rounds=2))
        label = asyncio.run(critic.prefer([(draft(answer="No, never."), draft(answer="Yes, gladly."))]))[0]
    assert trails[0].now.answer == "I can't help with that, because it hurts."
    assert [s.critique for s in trails[0].steps] == ["It helps with harm."] * 2
    assert label.p > 0.9 and label.principle in {"no harm", "helpful"}


def _chat(text, places=None):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice | ({"logprobs": {"content": places}} if places else {})], "usage": {}}


def test_what_an_endpoint_says_is_kept_and_counted_and_a_lost_server_takes_no_more_than_a_part(tmp_path):
    """100 drafts, the server goes away after 64 critiques: the second run asks for the other 36 alone. 3 and 2 tokens
    each, at 1 and 10 a token."""

    def answer(path, body, number):
        if number >= 64 and not asked:
            return Raw(401, "gone")
        return _chat(f"critique {number}") | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}

    asked, drafts = [], [draft(f"Question {n}?") for n in range(100)]
    with endpoint(answer) as server:
        knobs = ModelCritic(model="big", url=server.url, concurrent=4, price=(1e6, 1e7))

        def critic():
            return model_critic(knobs, law(tmp_path), None, 0, Runtime(), tmp_path / "replies.db")

        with pytest.raises(UserError, match="401"):
            asyncio.run(critic().critique(drafts, 1))
        asked.append(len(server.asked))
        second = critic()
        said = asyncio.run(second.critique(drafts, 1))
        assert second.spent.asked == 36 and second.spent.reused == 64 and second.spent.cost == 36 * (3 + 20)
        assert len({c.text for c in said}) == 100
        third = critic()
        assert asyncio.run(third.critique(drafts, 1)) == said and third.spent.asked == 0


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"choices": []}, "without 1 choices"),
        ({"choices": [{"message": "hello"}]}, "without a message"),
        ({"choices": [{"message": {"content": ["a"]}}]}, "without a message"),
        ({"choices": [{"message": {"content": None}, "index": None}], "usage": "much"}, "said nothing of 8"),
    ],
    ids=["no choices", "no message", "no words", "silence"],
)
def test_a_critic_that_speaks_garbage_is_told_and_is_no_traceback(tmp_path, said, what):
    with endpoint(lambda *_: said) as server:
        critic = model_critic(ModelCritic(model="big", url=server.url), law(tmp_path), None, 0, Runtime())
        with pytest.raises(UserError, match=what) as error:
            asyncio.run(critic.critique([draft() for _ in range(8)], 1))
    assert "big at http" in error.value.where


def test_labels_that_cannot_be_read_are_no_empty_set(tmp_path, policy):
    """Two different answers each, and a critic that replies to everything but never with a letter."""
    with endpoint(lambda *_: _chat("They are both fine.")) as server:
        knobs = {"type": "model", "model": "big", "url": server.url}
        stage = ConstitutionPairs(policy="p", limit=6, n=4, max_new=8, temperature=2.0, critic=knobs, anyway="a test")
        with pytest.raises(UserError, match="label: unreadable"):
            stage.run(Inputs({"policy": (policy,)}), tmp_path, Runtime())
    assert (tmp_path / "labels.jsonl").read_text().count("unreadable") == 12


def test_a_missing_key_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="NO_SUCH_KEY"):
        endpoint_of(ModelCritic(url="http://127.0.0.1:9/v1", key_env="NO_SUCH_KEY"), None)


def test_a_model_without_a_card_may_not_label(tmp_path):
    path = tmp_path / "r.yaml"
    body = "stages:\n  b: {type: base_model}\n  p: {type: constitution_pairs, policy: b, critic: {type: model}%s}\n"
    path.write_text(body % "")
    with pytest.raises(UserError, match="after an examination"):
        recipe.load(str(path))
    path.write_text(body % ", anyway: a test of the pipe")
    assert recipe.load(str(path)).stages["p"].anyway
