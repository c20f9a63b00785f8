"""Rows from the model itself: sample n answers, let a judge score them, keep the best (and the worst).

Rejection sampling gives demos (the best answers, if they are good enough), best-of-n gives pairs (the best answer
against the worst). Both say what more samples would be worth: the expected best score of k answers for k up to n.
Prompts are items (a suite's shape) that must not be evaluation items; their extra fields are what judges compare with.
Left out on purpose: rounds of sampling and training (stages/online.py). Importing this file does not import torch.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from math import comb, log
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.judge.base import Answered, Judge
from posttrain.judge.items import KINDS
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage, write_text
from posttrain.rl import rewards
from posttrain.rl.rollout import at_once, verdicts
from posttrain.rows import Demo, Item, Message, Pair, Sample, digest, read_jsonl, set_aside, write_jsonl

REASONS = {"answer": "right result", "constraints": "follows the form asked for", "label": "right side of safety"}


class Scored(NamedTuple):
    """One answer and what the judge says of it; fit: it ended by itself and says something, so it may be imitated."""

    sample: Sample
    score: float
    fit: bool


class Sampled(Stage):
    """prompts: bundled names or JSONL files of items. n: answers sampled for each. judge: a reward by name; a reward
    model is one of the edge `reward_models`."""

    places: ClassVar[frozenset[str]] = frozenset({"prompts"})

    policy: Annotated[str, Ref("policy")]
    reward_models: Annotated[tuple[str, ...] | str | None, Ref("reward")] = None
    prompts: str | tuple[str, ...] = "bundled:prompts"
    judge: rewards.AnyReward = {"type": "asked"}  # type: ignore[valid-type]
    n: int = Field(default=4, ge=2)
    temperature: float = Field(default=0.8, gt=0)
    max_new: int = Field(default=96, ge=1)
    limit: int | None = Field(default=None, ge=1)
    holdout: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _examined(self) -> "Sampled":
        examined(self.judge)
        return self

    def identity(self) -> dict[str, str]:
        found = {"prompts": digest("".join(path.read_text(encoding="utf-8") for path in self._paths()))}
        return found | rewards.source_identity({"judge": self.judge})

    def _paths(self) -> list[Path]:
        names = (self.prompts,) if isinstance(self.prompts, str) else self.prompts
        return [bundled.rows_or_file(name, "prompts") for name in names]

    @property
    def source(self) -> Literal["judge", "rule"]:
        """Who chose, for the rows' provenance."""
        return "judge" if self.judge.type in ("llm", "reward_model") else "rule"

    def rows(self, item: Item, answers: Sequence[Scored]) -> Iterator[Any]:
        """The rows that a prompt and its answers give."""
        raise NotImplementedError

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.loading import load_model
        from posttrain.render import load_chat
        from posttrain.sampler import Sampling
        from posttrain.sampler.local import Local

        items = [item for path in self._paths() for item in read_jsonl(path, Item)]
        random.Random(self.seed).shuffle(items)
        items = items[: self.limit]
        if not items:
            raise UserError("there is no prompt to answer", where=f"prompts: {self.prompts}")
        judge = judge_of(self.judge, inputs, runtime)
        chat = load_chat(inputs.one("policy"))
        model = load_model(inputs.one("policy"), runtime, train=False)
        how = Sampling(max_new=self.max_new, temperature=self.temperature, seed=self.seed)
        prompts = [chat.prompt(item.messages) for item in items]
        with runtime.progress.task("sample", total=len(prompts) * self.n) as tick:
            sampled = Local(model, chat).sample(prompts, self.n, how, on_step=lambda done, t: tick(done, tokens=t))
            groups = asyncio.run(judged(items, asyncio.run(sampled), judge))
        made = [(item.id, row) for item, group in zip(items, groups) for row in self.rows(item, group)]
        found = [row for _, row in made]
        for name, side in zip(("train", "holdout"), sides(made, self.holdout)):
            write_jsonl(out / f"{name}.jsonl", side)
        curve = gain([[a.score for a in group] for group in groups])
        write_text(out / "gain.json", json.dumps({"best_of": curve, "kl": [kl_of_best(k) for k in curve]}, indent=2))
        tokens = float(sum(len(a.sample.ids) for group in groups for a in group) + sum(map(len, prompts)))
        counts = Counter(r.category for r in found)
        facts = {"rows": float(len(found)), "prompts": float(len(items)), "tokens": tokens}
        facts |= {"right_share": curve[1], "best_share": curve[self.n], "flops": tokens * model.flops_per_token / 3}
        facts |= {f"best_of.{k}": value for k, value in curve.items() if k & (k - 1) == 0}
        return facts | {f"{self.makes}.{k}": float(v) for k, v in sorted(counts.items())}


def examined(judge: Any) -> None:
    """Raises ValueError for a language model that would choose rows and has neither a card nor a reason."""
    if judge.type == "llm" and not judge.anyway.strip():
        raise ValueError(
            "a language model chooses training data only after an examination: let judge_pairs label (it needs a "
            "judge_card), or say in judge.anyway why this one may do without"
        )


def judge_of(judge: Any, inputs: Inputs, runtime: Runtime) -> Judge:
    """The reward that a recipe names; a reward model is loaded from the edge `reward_models`."""
    if judge.type != "reward_model":
        made: Judge = judge.bind()()
        return made
    from posttrain.reward_judge import RewardJudge

    return RewardJudge.load(inputs.many("reward_models"), runtime, penalty=judge.penalty)


class SamplePairs(Sampled):
    """At most one pair comes of each prompt: the best answer against the worst, if their scores differ by `margin`."""

    makes: ClassVar[Kind] = "pairs"

    type: Literal["sample_pairs"] = "sample_pairs"
    margin: float = Field(default=0.0, ge=0)

    def rows(self, item: Item, answers: Sequence[Scored]) -> Iterator[Pair]:
        if pair := best_and_worst(item, answers, self.margin):
            yield pair.model_copy(update={"source": self.source})


class SampleDemos(Sampled):
    """Rejection sampling: of each prompt the `keep` best different answers whose score is at least `least`."""

    makes: ClassVar[Kind] = "demos"

    type: Literal["sample_demos"] = "sample_demos"
    keep: int = Field(default=1, ge=1)
    least: float = 0.5

    def rows(self, item: Item, answers: Sequence[Scored]) -> Iterator[Demo]:
        good = {a.sample.text: a for a in sorted(answers, key=_likeliest) if a.fit and a.score >= self.least}
        best = sorted(good.values(), key=lambda a: (a.score, _likeliest(a)), reverse=True)[: self.keep]
        for number, a in enumerate(best):
            yield Demo(
                id=f"sampled-{item.id}" + (f"-{number}" if number else ""),
                messages=(*item.messages, Message(role="assistant", content=a.sample.text)),
                category=_category(item), source=self.source, meta={"score": a.score, "of": len(answers)},
            )  # fmt: skip


def sides(made: Sequence[tuple[str, Any]], share: float) -> tuple[list[Any], list[Any]]:
    """(rows to train on, rows held out) of (prompt's id, row): a prompt stands on one side with all that it gave."""
    apart = {i for i, _ in made if set_aside(f"sampled-{i}", share)}
    return [row for i, row in made if i not in apart], [row for i, row in made if i in apart]


async def judged(items: Sequence[Item], drawn: Sequence[Sequence[Sample]], judge: Judge) -> list[list[Scored]]:
    """Every answer with its score. One that did not end by itself, or is empty, has the lowest score of all."""
    asked = [answered(item, s) for item, samples in zip(items, drawn) for s in samples if fit(s)]
    scores = await verdicts("judge", at_once(judge, len(asked)), asked) if asked else []
    given = placed(scores, drawn)
    return [[Scored(s, x, fit(s)) for s, x in zip(samples, row)] for samples, row in zip(drawn, given)]


def placed(scores: Sequence[Any], drawn: Sequence[Sequence[Sample]]) -> list[list[Any]]:
    """The scores of the fit answers where they stand; the others have the lowest that was given, 0 at most. A score may
    be None: the judge abstained."""
    lowest, left = min([0.0, *(s for s in scores if s is not None)]), iter(scores)
    return [[next(left) if fit(s) else lowest for s in samples] for samples in drawn]


def fit(sample: Sample) -> bool:
    """Whether an answer ended by itself and says anything: no other may be chosen."""
    return sample.ended == "stop" and bool(sample.text.strip())


def answered(item: Item, sample: Sample) -> Answered:
    """What a judge is asked; truth: what the item says a right answer is."""
    truth = item.model_dump(exclude={"messages", "id", "cluster"})
    return Answered(prompt=item.messages, answer=sample.text, truth=truth)


def extremes(answers: Sequence[Scored], margin: float = 0.0) -> tuple[Scored, Scored] | None:
    """(best fit answer, worst of all), of equals the likelier; None where they are no more than `margin` apart."""
    usable = [a for a in answers if a.sample.text.strip() and a.sample.ended != "malformed"]
    fit = [a for a in usable if a.fit]
    if not fit:
        return None
    best = max(fit, key=lambda a: (a.score, _likeliest(a)))
    worst = max(usable, key=lambda a: (-a.score, _likeliest(a)))
    return (best, worst) if best.score - worst.score > margin else None


def best_and_worst(item: Item, answers: Sequence[Scored], margin: float = 0.0) -> Pair | None:
    """The best answer against the worst; None: they are as good as each other."""
    two = extremes(answers, margin)
    if two is None:
        return None
    chosen, rejected = two
    return Pair(
        id=f"sampled-{item.id}", prompt=item.messages, chosen=Message(role="assistant", content=chosen.sample.text),
        rejected=Message(role="assistant", content=rejected.sample.text), source="rule", category=_category(item),
        reason=REASONS.get(_kind(item), "higher score"), meta={"scores": [chosen.score, rejected.score]},
    )  # fmt: skip


def _likeliest(a: Scored) -> float:
    """Mean log-prob of its tokens, nats."""
    return sum(a.sample.logps) / max(1, len(a.sample.logps))


def _kind(item: Item) -> str:
    fields = item.model_dump()
    return next((k for k in KINDS if k in fields), "")


def _category(item: Item) -> str:
    return f"sampled_{_kind(item)}".rstrip("_")


def gain(scores: Sequence[Sequence[float]]) -> dict[int, float]:
    """k -> mean over prompts of the expected best of k answers, without replacement from the n that were drawn:
    sum over the sorted scores of s_(i) C(i - 1, k - 1) / C(n, k). Unbiased for every k up to n."""
    n = min(map(len, scores))

    def best(row: Sequence[float], k: int) -> float:
        return sum(s * comb(i, k - 1) for i, s in enumerate(sorted(row))) / comb(len(row), k)

    return {k: sum(best(row, k) for row in scores) / len(scores) for k in range(1, n + 1)}


def kl_of_best(k: int) -> float:
    """How far best-of-k is from the policy: log k - (k - 1) / k nats an answer (arXiv:2009.01325, an upper bound)."""
    return log(k) - (k - 1) / k
