"""Conversations of several turns: ids and masks by hand, log-probs rescored, environments that fail; one is learned."""

import asyncio
import json

import pytest
import tiny
import torch
from pydantic import TypeAdapter, ValidationError
from test_learner import FP32, learner

from posttrain import packing
from posttrain.errors import UserError
from posttrain.judge.base import Rule
from posttrain.loading import load_model
from posttrain.pipeline import Inputs, Runtime
from posttrain.progress import Progress
from posttrain.render import load_chat
from posttrain.rl.environments import AnyEnvironment, World, calculate, called
from posttrain.rl.rollout import Ask, Episode, Group, Shaping, Weighed, alone, answered, describe, judged
from posttrain.rows import Message, Prompt, write_jsonl
from posttrain.sampler import Sampling, Scripted
from posttrain.sampler.local import Local
from posttrain.stages.rl import Rl

STOPS = tuple("nopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # a random model hardly ever draws a stop token
HOW = Sampling(max_new=24, temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tiny.folder(tmp_path_factory.mktemp("tiny"))
    load_chat(path, "chatml").save(path)
    return path


@pytest.fixture(scope="module")
def chat(folder):
    return load_chat(folder)


def world(chat, function="", **knobs):
    named = {"type": "python", "function": f"environments_for_tests:{function}"} if function else "calculator"
    env = TypeAdapter(AnyEnvironment).validate_python(named)
    return World(env.model_copy(update=knobs), chat)


def ask(chat, text, **truth):
    messages = (Message(role="user", content=text),)
    return Ask(text, messages, truth, chat.prompt(messages))


def played(chat, world, says, text="the user asks", **truth):
    """One conversation with a policy that says what it was told to."""
    sampler = Scripted(says, chat)
    ((episode,),) = asyncio.run(world.draw(sampler.sample)([ask(chat, text, **truth)], 1, HOW))
    return episode, sampler


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 + 4 * 2", "11"), ("(3 + 4) * 2", "14"), ("-7 - -2", "-5"), ("1,200 / 16", "75"), ("7 / 2", "3.5"),
        ("0.1 + 0.2", "0.3"), ("1 / 3", "about 0.333333"), ("6 × 7 ÷ 2", "21"), ("1 / (2 - 2)", "error: division"),
        ("2 ** 9", "error: that is no"), ("__import__('os').getcwd()", "error: that is no"), ("a + 1", "error: that"),
        ("9" * 31, "error: the number is too large"), ("1e20 * 1e20", "error: the number is too large"),
        ("(" * 90 + "1", "error: that"), ("", "error: that"), ("True + 1", "error: that"), ("1 if 1 else 2", "error"),
    ],
)  # fmt: skip
def test_the_calculator(expression, value):
    assert calculate(expression).startswith(value) and (value.startswith("error") or calculate(expression) == value)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("Let me see. calc(3 + 4)", "3 + 4"), ("calc(2*(3+4)).", "2*(3+4)"), ("`calc(1)`\n", "1"),
        ("calc(1) is 1, now calc(2)", "2"), ("the answer is 7", None), ("calc(1) = 1", None), ("calc(", None),
        ("calc(" + "1" * 300 + ")", None),
    ],
)  # fmt: skip
def test_a_call_ends_a_message(text, expression):
    assert called(text) == expression


def test_ids_and_masks_by_hand(chat):
    """Two answers and one observation: as ids they are the prompt that the whole conversation has."""
    episode, sampler = played(chat, world(chat), ["calc(6 * 7)", "It is 42."])
    said = (Message(role="assistant", content="calc(6 * 7)"), Message(role="user", content="42"),
            Message(role="assistant", content="It is 42."))  # fmt: skip
    assert episode.said == said and episode.text == "It is 42." and episode.ended == "stop"
    start = chat.prompt([Message(role="user", content="the user asks")])
    second = chat.prompt((Message(role="user", content="the user asks"), *said[:2]))
    assert list(sampler.asked[1][0]) == second  # what the policy saw at its second turn
    assert [*start, *episode.ids][: len(second)] == second
    first_answer, last_answer = episode.turns
    between = len(episode.ids) - first_answer - last_answer
    assert list(episode.spoken) == [True] * first_answer + [False] * between + [True] * last_answer
    shown = chat.decode([i for i, mine in zip(episode.ids, episode.spoken) if not mine])
    assert shown == "\n<|im_start|>user\n42<|im_end|>\n<|im_start|>assistant\n"
    assert [how.seed for _, _, how in sampler.asked] == [5, 5 + (1 << 33)]


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_a_conversation_has_the_ids_of_its_prompt(tmp_path, template):
    """Prompt + answer + what stands between = the prompt of the longer conversation, in every template."""
    tiny.tokenizer().save_pretrained(tmp_path)
    chat = load_chat(tmp_path, template)
    before = (Message(role="user", content="the user asks"),)
    answer, result = Message(role="assistant", content="one two"), Message(role="user", content="sentences in")
    prompt, said = chat.continuation(before, answer)
    assert [*prompt, *said, *chat.between(said, result)] == chat.prompt((*before, answer, result))


def test_an_answer_cut_by_a_stop_string_gets_its_stop_token(chat):
    """The sampler drew no stop token, so the template's is put there, and nothing is learned from it."""
    ids = chat.tokenizer("calc(1)", add_special_tokens=False).input_ids
    found = chat.between(ids, Message(role="tool", content="1"))
    assert found[0] == chat.stop_ids[0]
    assert chat.between([*ids, chat.stop_ids[0]], Message(role="tool", content="1")) == found[1:]


def test_people_cannot_write_control_tokens_into_an_observation(chat):
    found = chat.between([chat.stop_ids[0]], Message(role="user", content="<|im_end|>"))
    assert found.count(chat.stop_ids[0]) == 1


def test_what_judges_see_and_what_is_logged(chat):
    draw = world(chat).draw(Scripted(["calc(1 + 1)", "no", "2"], chat).sample)
    score = Weighed(Rule(lambda item: float(item.answer == "2" and len(item.prompt) == 3)))
    work = answered([ask(chat, "a"), ask(chat, "b")], draw, {"r": score}, n=1, how=HOW, shaping=Shaping())
    groups = asyncio.run(work)
    assert [g.reward for g in groups] == [[1.0], [0.0]]
    facts = describe(groups)
    assert facts["turns"] == 1.5 and facts["length"] == sum(sum(g.samples[0].turns) for g in groups) / 2
    assert Shaping(penalty=1, buffer=20).owed(groups[0].samples[0], 24) == (max(groups[0].samples[0].turns) - 4) / 20


def test_an_environment_that_never_ends_is_ended(chat):
    episode, sampler = played(chat, world(chat, "always", turns=3), ["x"])
    assert len(episode.turns) == 3 == len(sampler.asked) and episode.said[-1].role == "assistant"


def test_an_answer_without_an_end_is_the_last(chat):
    episode, _ = played(chat, world(chat, "always"), ["one two three " * 40])
    assert episode.ended == "length" and len(episode.turns) == 1 and all(episode.spoken)


def test_a_long_observation_is_cut(chat):
    episode, _ = played(chat, world(chat, "long", turns=2, longest=10), ["x"])
    assert len(chat.tokenizer(episode.said[1].content).input_ids) <= 11
    assert len(episode.ids) <= world(chat, "long", turns=2, longest=10).room(24)


def test_an_async_environment(chat):
    episode, _ = played(chat, world(chat, "later"), ["x"])
    assert [m.content for m in episode.said] == ["x", "go on", "x", "go on", "x"][: len(episode.said)]
    assert len(episode.turns) == 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("breaks", r"env, at 'x': the environment failed: ZeroDivisionError: division by zero"),
        ("number", r"env: the environment gave a int"),
        ("hangs", r"env: the environment took more than 0\.1 s"),
    ],
)
def test_an_environment_that_fails_is_one_clear_message(chat, function, message):
    with pytest.raises(UserError, match=message):
        played(chat, world(chat, function, seconds=0.1), ["x"])


def test_an_environment_that_is_not_there(chat):
    with pytest.raises(UserError, match="no such function"):
        world(chat, "missing")
    with pytest.raises(ValidationError):
        TypeAdapter(AnyEnvironment).validate_python("abacus")


def test_what_the_policy_is_told(chat):
    told = world(chat, told="Use it.").told
    assert [m.content for m in told((Message(role="user", content="hi"),))] == ["Use it.", "hi"]
    both = told((Message(role="system", content="Be kind."), Message(role="user", content="hi")))
    assert both[0].content == "Be kind.\n\nUse it."
    assert world(chat, "always").told(both) == both


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(folder, chat):
    """Groups that the tiny model really drew, with observations in the middle."""
    model = load_model(folder, FP32, train=True)
    asks = [ask(chat, text, wanted="x") for text in ("the user", "asks one", "and two")]
    draw = world(chat, "guess", turns=3).draw(Local(model, chat).sample)
    drawn = asyncio.run(draw(asks, 4, Sampling(max_new=6, seed=3, temperature=0.7, stop=STOPS)))
    groups = [Group(a, list(s), {}, [0.0, 1.0, 2.0, 3.0]) for a, s in zip(asks, drawn)]
    assert sum(not all(s.spoken) for g in groups for s in g.samples) > 3
    return model, groups


def test_sampler_and_trainer_agree_with_observations_in_the_middle(drawn):
    """The learner's own check at rollout 0, and each log-prob against a plain forward pass of the conversation."""
    model, groups = drawn
    work = learner(model, groups, {"type": "dapo"}, temperature=0.7, max_new=6)
    next(work.batches())
    apart = torch.cat(work.batch.columns["old"]) - torch.cat(work.batch.columns["behaviour"])
    assert float(apart.abs().max()) < 1e-4
    for g in groups:
        for s in g.samples:
            ids = torch.tensor([[*g.ask.ids, *s.ids]])
            with torch.no_grad():
                logp_1T = (model.hf(ids).logits[0, :-1] / 0.7).log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            mine = torch.tensor(s.spoken)
            torch.testing.assert_close(
                logp_1T[len(g.ask.ids) - 1 :][mine], torch.tensor(s.logps)[mine], rtol=0, atol=1e-4
            )
            assert all(x == 0 for x, m in zip(s.logps, s.spoken) if not m)


def test_observations_meet_no_loss(drawn):
    """Every column has a number for each token that was drawn and no other; what an observation says instead changes
    neither the tokens that come before it nor the number of targets."""
    model, groups = drawn
    work = learner(model, groups, {"type": "grpo", "kl": {"where": "none"}}, temperature=0.7, max_new=6)
    micro = next(work.batches())
    n = sum(sum(s.spoken) for g in groups for s in g.samples)
    assert {k: sum(map(len, c)) for k, c in work.batch.columns.items()} == dict.fromkeys(work.batch.columns, n)
    pack = packing.build(work.batch.docs)
    assert len(pack.target_N) == n
    stands = [i for g in groups for s in g.samples for i, mine in zip(s.ids, s.spoken) if mine]
    assert pack.target_N.tolist() == stands
    loss, facts = work.loss(micro[0], sum(work.rows.counts[i] for i in micro[0]))
    assert torch.isfinite(loss) and facts["entropy"][1] == n


def rl(folder, tmp_path, said=None, **knobs):
    data = tmp_path / "prompts"
    rows = [Prompt(id=w, messages=(Message(role="user", content=w),)) for w in ("the", "user", "asks", "and")]
    write_jsonl(data / "train.jsonl", rows)
    write_jsonl(data / "holdout.jsonl", rows[:2])
    plain = {
        "policy": "p", "prompts": "d", "sampling": {"max_new": 6, "stop": STOPS}, "steps": 30,
        "prompts_per_step": 4, "group": 8,
        "lr": 4e-3, "micro_tokens": 512,
        "rewards": {"called": {"type": "function", "path": "environments_for_tests:called"}},
        "env": {"type": "python", "function": "environments_for_tests:letter", "turns": 2, "longest": 8},
    }  # fmt: skip
    progress = Progress("silent")
    out = tmp_path / "out"
    out.mkdir()
    inputs = Inputs({"policy": (folder,), "prompts": (data,)})
    metrics = Rl(**(plain | knobs)).run(inputs, out, Runtime(precision="fp32", progress=progress))
    return metrics, [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_policy_learns_to_ask_the_environment(folder, tmp_path):
    """Answers that end by themselves and begin with some letters are answered: the reward is that it happened."""
    metrics, log = rl(folder, tmp_path)
    assert metrics["reward_last"] > metrics["reward_first"] + 0.3
    assert log[-1]["turns"] > 1.5 and max(e["mismatch"] for e in log if "mismatch" in e) < 1e-6


def test_a_prompt_needs_room_for_the_whole_conversation(folder, tmp_path):
    with pytest.raises(UserError, match=r"leave no room for \d+ new tokens") as caught:
        rl(folder, tmp_path, micro_tokens=64, env={"type": "calculator", "turns": 8})
    assert "env.turns" in caught.value.remedy


def test_an_environments_source_is_part_of_the_identity():
    def identity(name):
        env = {"type": "python", "function": f"environments_for_tests:{name}"}
        return Rl(policy="p", prompts="d", rewards={"r": {"type": "number"}}, env=env).identity()

    assert identity("always") != identity("breaks")


def test_episodes_are_samples(chat):
    """One turn that ends at once is the plain sample with nothing masked."""
    episode, _ = played(chat, world(chat), ["no call"])
    assert isinstance(episode, Episode) and all(episode.spoken) and episode.turns == (len(episode.ids),)
    plain = asyncio.run(alone(Scripted(["no call"], chat).sample)([ask(chat, "the user asks")], 1, HOW))[0][0]
    assert (episode.ids, episode.text, episode.ended) == (plain.ids, plain.text, plain.ended)
    assert judged(ask(chat, "hi"), episode).prompt == ask(chat, "hi").messages
