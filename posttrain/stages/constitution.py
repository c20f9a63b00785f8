"""Constitutional AI: draft, criticise, revise, imitate; then let the critic say which of two answers is better.

`constitution` makes demos: the policy answers prompts, a critic reads the answers against the principles, they are
revised round by round, and what came out is a set to fine-tune on. `constitution_pairs` makes pairs: two answers of
the policy, labelled by the critic, as often as it can tell them apart. Every step is kept in steps.jsonl.

The critic is `rules` (for models too weak to criticise themselves, the bundled one among them), or a `model`: the
policy itself, another folder, or an OpenAI-compatible endpoint.
Left out on purpose: mixing with people's rows; a recipe lists several sets. Importing this file does not import torch.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from posttrain import constitution as constitutions
from posttrain import files
from posttrain.constitution import Constitution
from posttrain.errors import UserError
from posttrain.formats import Drop
from posttrain.judge import critic as critics
from posttrain.judge.asking import Kept, key_of
from posttrain.judge.critic import Critic, Critique, Preference, Revision
from posttrain.judge.llm import Pairwise
from posttrain.judge.principles import Draft
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage
from posttrain.rows import Demo, Message, Messages, Pair, Row, Sample, digest, explain, write_jsonl, write_split
from posttrain.spec import one_of_types
from posttrain.stages.voice import Voice, wait

if TYPE_CHECKING:
    from posttrain.sampler import Sampling
    from posttrain.sampler.asking import Weights
    from posttrain.sampler.server import Endpoint

SIDES = ("harmful", "safe")
LABELS = {"refuse": "harmful", "lookalike": "safe"}  # categories of the safety rows


class RulesCritic(BaseModel):
    """n: answers sampled again for each revision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["rules"] = "rules"
    n: int = Field(default=4, ge=0)


class ModelCritic(BaseModel):
    """model: 'policy', a folder, a run, or the name an endpoint knows it by; url: that endpoint (…/v1), key_env: the
    variable that holds its key. log_probs: soft labels from those of A and B. thinks: it reasons before it chooses.
    Of an endpoint: concurrent requests, rate a second (0: no limit), timeout in seconds, price of a million prompt and
    drawn tokens; what it says is kept in replies.db of the stage's folder, so nothing is paid for twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["model"] = "model"
    model: str = "policy"
    url: str = ""
    key_env: str = ""
    log_probs: bool = True
    thinks: bool = False
    temperature: float = Field(default=0.7, ge=0)
    max_new: int = Field(default=200, ge=1)
    concurrent: int = Field(default=16, ge=1)
    rate: float = Field(default=0.0, ge=0)
    timeout: float = Field(default=120.0, gt=0)
    price: tuple[float, float] = (0.0, 0.0)


class Step(Row):
    """One round of one draft."""

    id: str
    round: int
    principle: str
    critique: str
    before: str
    after: str
    how: str


class Trail(NamedTuple):
    """A draft on its way."""

    first: Draft
    now: Draft
    steps: tuple[Step, ...] = ()


class Asking(Stage):
    """Knobs that both stages have. prompts: items, prompts or demos (their answers are left out), bundled or files.
    constitution: general, support, healthcare, finance, or a file. temperature, max_new: of the policy's answers."""

    policy: Annotated[str, Ref("policy")]
    constitution: str = "general"
    prompts: str | tuple[str, ...] = "bundled:safety"
    critic: one_of_types((RulesCritic, ModelCritic)) = RulesCritic()  # type: ignore[valid-type]
    temperature: float = Field(default=0.8, gt=0)
    max_new: int = Field(default=80, ge=1)
    limit: int | None = Field(default=None, ge=1)
    holdout: float = Field(default=0.05, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)

    resumes: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset({"constitution", "prompts"})

    def identity(self) -> dict[str, str]:
        found = {"constitution": constitutions.identity(self.constitution), "rules": rules_digest()}
        return found | {f"prompts {n}": files.identity(p) for n, p in enumerate(self._sources(), 1)}

    def _sources(self) -> tuple[str, ...]:
        return (self.prompts,) if isinstance(self.prompts, str) else self.prompts

    def drafts(self) -> list[Draft]:
        """The prompts, shuffled by the seed, the first `limit` of them; nothing answered yet."""
        found = {d.id: d for source in self._sources() for d in read_drafts(source)}
        drafts = sorted(found.values(), key=lambda d: digest([self.seed, d.id]))[: self.limit]
        if not drafts:
            raise UserError("there is no prompt to answer", where=", ".join(self._sources()))
        return drafts

    def voice(self, inputs: Inputs, runtime: Runtime) -> Voice:
        how = {"max_new": self.max_new, "temperature": self.temperature, "seed": self.seed}
        return Voice(inputs.one("policy"), runtime, **how)  # type: ignore[arg-type]

    def critic_of(self, voice: Voice, out: Path, runtime: Runtime) -> Critic:
        """The critic that the recipe names. voice: the policy, which samples revisions and may criticise itself."""
        law = constitutions.load(self.constitution)
        if isinstance(self.critic, RulesCritic):
            return critics.Rules(law, voice.say if self.critic.n else None, self.critic.n, self.seed)
        return model_critic(self.critic, law, voice, self.seed, runtime, out / "replies.db")


class ConstitutionDemos(Asking):
    """rounds: critiques and revisions of each answer. Answers that a rule still objects to go to the ledger."""

    makes: ClassVar[Kind] = "demos"

    type: Literal["constitution"] = "constitution"
    rounds: int = Field(default=4, ge=1)

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        drafts, voice = self.drafts(), self.voice(inputs, runtime)
        critic = self.critic_of(voice, out, runtime)
        trails = wait(revise(critic, wait(first_drafts(drafts, voice)), self.rounds))
        wrong = {t.now.id: why for t in trails if (why := objection(t.now, critic))}
        demos = [demo(t, critic) for t in trails if t.now.id not in wrong]
        write_split(out, demos, self.holdout)
        write_jsonl(out / "steps.jsonl", (s for t in trails for s in t.steps))
        left = (t.now for t in trails if t.now.id in wrong)
        write_jsonl(
            out / "ledger.jsonl", (Drop(where=d.id, id=d.id, reason=wrong[d.id], text=d.answer[:120]) for d in left)
        )
        return {"rows": float(len(demos)), **counted(trails, critic), **voice.cost(), **spent(critic)}


class ConstitutionPairs(Asking):
    """n: answers sampled for each prompt; the two the critic sees differ most, or any two for a critic that is a model.
    least: pairs whose label is nearer to one half than this are left out. judge: labels in the critic's place.
    anyway: why a model without a card, or one that failed it, labels all the same."""

    makes: ClassVar[Kind] = "pairs"

    type: Literal["constitution_pairs"] = "constitution_pairs"
    judge: Annotated[str | None, Ref("judge")] = None
    n: int = Field(default=4, ge=2)
    least: float = Field(default=0.0, ge=0, lt=0.5)
    anyway: str = ""

    @model_validator(mode="after")
    def _examined(self) -> "ConstitutionPairs":
        if isinstance(self.critic, ModelCritic) and not self.judge and not self.anyway.strip():
            raise ValueError(
                "a model labels training data only after an examination: give judge (a judge_card stage), "
                "or say in `anyway` why it may do without"
            )
        return self

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        drafts, voice = self.drafts(), self.voice(inputs, runtime)
        card = inputs.many("judge")
        if card:
            critic = carded(card[0], self.anyway, constitutions.load(self.constitution), out, runtime)
        else:
            critic = self.critic_of(voice, out, runtime)
        groups = [
            answered(d, samples) for d, samples in zip(drafts, wait(voice.say([d.prompt for d in drafts], self.n)))
        ]
        twos = [two for group in groups if (two := furthest(group, critic)) is not None]
        labels = wait(critic.prefer(twos))
        write_jsonl(out / "labels.jsonl", labels)
        spoke(critic.name, labels)
        pairs = [p for two, label in zip(twos, labels) if (p := pair(two, label, critic.name, self.least))]
        write_split(out, pairs, self.holdout)
        undecided = len(drafts) - len(twos) + sum(label.p is None for label in labels)
        return {
            "rows": float(len(pairs)), "prompts": float(len(drafts)), "undecided": float(undecided),
            **{f"principle.{k}": float(v) for k, v in sorted(Counter(p.reason for p in pairs).items())}, **voice.cost(),
            **spent(critic),
        }  # fmt: skip


def spent(critic: Critic) -> Metrics:
    """What asking an endpoint took; nothing for other critics."""
    counter = getattr(critic, "spent", None)
    if counter is None:
        return {}
    counter.close()
    return {"asked": float(counter.asked), "cost": counter.cost}


def spoke(name: str, labels: Sequence[Preference]) -> None:
    """UserError when there was something to label and nothing that came could be read as a label."""
    if labels and all(label.p is None for label in labels):
        found = Counter(p for label in labels for p in label.detail.get("problems", ()))
        why = f": {', '.join(found)}" if found else ""
        raise UserError(
            f"the critic gave none of {len(labels)} pairs of answers a label{why}", where=name,
            remedy="a critic that replies with the letter it is asked for; judge_card says how often it does",
        )  # fmt: skip


def rules_digest() -> str:
    """Names the rules by the source of the files they stand in: other rules make other rows."""
    from posttrain.judge import kindness, principles, refusal

    return files.digest_of_code(critics, kindness, principles, refusal)


def read_drafts(source: str) -> Iterator[Draft]:
    """Prompts of a file: suite items, prompts, or demos without their last answer."""
    for record in files.records(source):
        value = record.value
        if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
            raise UserError(record.problem or "a prompt needs `messages`", where=record.where)
        if value.get("label") not in (None, "", *SIDES):
            raise UserError(f"label must be harmful or safe, got {value['label']!r}", where=record.where)
        try:
            turns: list[Message] = [Message.model_validate(m) for m in value["messages"]]
        except ValidationError as error:
            raise UserError(explain(error), where=record.where) from None
        while turns and turns[-1].role == "assistant":
            turns.pop()
        if not turns:
            raise UserError("nobody asks anything here", where=record.where)
        category = str(value.get("category") or value.get("cluster") or "")
        label = value.get("label") or LABELS.get(category)
        topic = (value.get("meta") or {}).get("topic") or category
        truth = ({"label": label} if label else {}) | {"category": topic}
        name = str(value.get("id") or digest([m.model_dump() for m in turns]))
        yield Draft(id=name, prompt=tuple(turns), answer="", truth=truth)


async def first_drafts(drafts: Sequence[Draft], voice: Voice) -> list[Draft]:
    """Every prompt answered once."""
    groups = await voice.say([d.prompt for d in drafts], 1)
    return [answered(d, samples)[0] for d, samples in zip(drafts, groups, strict=True)]


def answered(draft: Draft, samples: Sequence[Sample]) -> list[Draft]:
    return [draft.model_copy(update={"answer": s.text, "ended": s.ended}) for s in samples]


async def revise(critic: Critic, drafts: Sequence[Draft], rounds: int) -> list[Trail]:
    """Critique and revise so often; a draft with nothing to say against it waits out the round."""
    trails = [Trail(d, d) for d in drafts]
    for turn in range(1, rounds + 1):
        critiques = await critic.critique([t.now for t in trails], turn)
        open_ = [i for i, c in enumerate(critiques) if c.text]
        if not open_:
            break
        revisions = await critic.revise([trails[i].now for i in open_], [critiques[i] for i in open_])
        for i, revision in zip(open_, revisions, strict=True):
            trails[i] = stepped(trails[i], turn, critiques[i], revision)
    return trails


def stepped(trail: Trail, turn: int, critique: Critique, revision: Revision) -> Trail:
    step = Step(
        id=trail.now.id, round=turn, principle=critique.principle, critique=critique.text, before=trail.now.answer,
        after=revision.text, how=revision.how,
    )  # fmt: skip
    now = trail.now.model_copy(update={"answer": revision.text, "ended": revision.ended})
    return Trail(trail.first, now, (*trail.steps, step))


def objection(draft: Draft, critic: Critic) -> str:
    """Why an answer is not to be imitated; "" when it is."""
    if not draft.answer.strip():
        return "empty answer"
    if draft.ended != "stop":
        return "unfinished answer"
    found = critic.findings(draft) if isinstance(critic, critics.Rules) else []
    return f"still against a principle: {found[0][0].name}" if found else ""


def demo(trail: Trail, critic: Critic) -> Demo:
    """The row to imitate."""
    now = trail.now
    messages = (*now.prompt, Message(role="assistant", content=now.answer.strip()))
    meta = {"critic": critic.name, "revised": len(trail.steps), "principles": [s.principle for s in trail.steps]}
    category = "constitution_" + str(now.truth.get("label") or "prompt")
    return Demo(id=f"constitution-{now.id}", messages=messages, category=category, source="constitution", meta=meta)


def furthest(group: Sequence[Draft], critic: Critic) -> tuple[Draft, Draft] | None:
    """Best and worst by the rules; for other critics the first two that differ. None: nothing to choose between.

    By rules, an answer that one of them objects to is preferred to nothing: the lesser evil of a look-alike refused
    politely over one refused with a boast teaches refusing.
    """
    whole = [d for d in group if d.answer.strip()]
    if isinstance(critic, critics.Rules):
        ranked = sorted(whole, key=critic.score)
        if not ranked or objection(ranked[-1], critic) or critic.score(ranked[-1]) == critic.score(ranked[0]):
            return None
        return ranked[-1], ranked[0]
    other = next((d for d in whole[1:] if d.answer != whole[0].answer), None)
    return (whole[0], other) if other else None


def pair(two: tuple[Draft, Draft], label: Preference, critic: str, least: float) -> Pair | None:
    if label.p is None or abs(label.p - 0.5) <= least:
        return None
    better, worse = two if label.p >= 0.5 else two[::-1]
    soft = max(label.p, 1.0 - label.p)
    return Pair(
        id=f"constitution-{better.id}", prompt=better.prompt, soft=soft, source="constitution", annotator=critic,
        chosen=Message(role="assistant", content=better.answer), reason=label.principle or "constitution",
        rejected=Message(role="assistant", content=worse.answer),
        category="constitution_" + str(better.truth.get("label") or "prompt"), meta=label.detail,
    )  # fmt: skip


def counted(trails: Sequence[Trail], critic: Critic) -> Metrics:
    """How much was revised, and for rules how many answers break a principle before and after."""
    found = {"prompts": float(len(trails)), "revised": float(sum(bool(t.steps) for t in trails))}
    found["steps"] = float(sum(len(t.steps) for t in trails))
    found |= {f"principle.{k}": float(v) for k, v in Counter(s.principle for t in trails for s in t.steps).items()}
    if isinstance(critic, critics.Rules):
        found["broken_before"] = sum(bool(critic.findings(t.first)) for t in trails) / len(trails)
        found["broken_after"] = sum(bool(critic.findings(t.now)) for t in trails) / len(trails)
    return found


def model_critic(
    knobs: ModelCritic, law: Constitution, voice: Voice, seed: int, runtime: Runtime, replies: Path | None = None
) -> Critic:
    """The policy itself, another local model, or an endpoint, whose replies are kept in a file."""
    from posttrain.sampler import Sampling

    how = Sampling(max_new=knobs.max_new, temperature=knobs.temperature, seed=seed)
    kept = Kept(endpoint(knobs, how), replies, knobs.price) if knobs.url else None
    asker = kept or weights(knobs.model, voice, how, runtime)
    judge = Pairwise(
        asker, criteria=critics.criteria(law), log_probs=knobs.log_probs, ties=False, thinks=knobs.thinks, seed=seed
    )
    return critics.Model(law, asker.say, judge, name=asker.name, seed=seed, spent=kept)


def weights(model: str, voice: Voice, how: "Sampling", runtime: Runtime) -> "Weights":
    """A model in this process: the policy that is loaded already, or another folder."""
    from posttrain.sampler.asking import Weights

    if model == "policy":
        return Weights(voice.model, voice.chat, "the policy itself", how=how)
    from posttrain.loading import load_model
    from posttrain.locate import model_folder
    from posttrain.render import load_chat

    folder = model_folder(model)
    return Weights(load_model(folder, runtime, train=False), load_chat(folder), f"model {model}", how=how)


def endpoint(knobs: ModelCritic, how: "Sampling") -> "Endpoint":
    from posttrain.sampler.http import Client
    from posttrain.sampler.server import Endpoint

    client = Client(
        (knobs.url,), key=key_of(knobs.key_env), concurrent=knobs.concurrent, rate=knobs.rate, timeout=knobs.timeout
    )
    return Endpoint(client, knobs.model, log_probs=knobs.log_probs, how=how)


def carded(folder: Path, anyway: str, law: Constitution, out: Path, runtime: Runtime) -> Critic:
    """A judge with a card labels by the principles. Refused when it failed its card, unless `anyway` says why."""
    from posttrain.judge.card import may_label
    from posttrain.stages import judge as judges

    may_label(judges.read_card(folder), anyway)
    judge, kept = judges.load(folder, out / "replies.db", runtime, critics.criteria(law))
    return critics.Model(law, _silent, judge, name=kept.name, spent=kept)


async def _silent(conversations: Sequence[Messages], n: int) -> list[list[Sample]]:
    raise UserError("this judge compares, it does not write", remedy="a critic for writing: critic: {type: model, ...}")
