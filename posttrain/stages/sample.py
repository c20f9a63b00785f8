"""Preference pairs from the model itself: sample answers, let rules judge them, pair a right one with a wrong one.

Best-of-n with a verifier as the judge. Prompts are suite-shaped items (answer, constraints or label) that must not be
evaluation items. Left out on purpose: judges that are models. Importing this file does not import torch.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from posttrain import bundled
from posttrain.errors import UserError
from posttrain.judge import rules
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage
from posttrain.rows import Item, Message, Pair, Sample, digest, read_jsonl, write_jsonl

REASONS = {"answer": "right result", "constraints": "follows the form asked for", "label": "right side of safety"}


class SamplePairs(Stage):
    """prompts: a bundled name or a JSONL file of items. n: answers sampled for each; at most one pair comes of each."""

    makes: ClassVar[Kind] = "pairs"
    places: ClassVar[frozenset[str]] = frozenset({"prompts"})

    type: Literal["sample_pairs"] = "sample_pairs"
    policy: Annotated[str, Ref("policy")]
    prompts: str = "bundled:prompts"
    n: int = Field(default=4, ge=2)
    temperature: float = Field(default=0.8, gt=0)
    max_new: int = Field(default=96, ge=1)
    limit: int | None = Field(default=None, ge=1)
    holdout: float = Field(default=0.1, ge=0, lt=1)
    seed: int = 0

    def identity(self) -> dict[str, str]:
        return {"prompts": digest(self._path().read_text(encoding="utf-8"))}

    def _path(self) -> Path:
        if self.prompts.startswith("bundled:"):
            return bundled.rows(self.prompts.removeprefix("bundled:"))
        if not Path(self.prompts).is_file():
            raise UserError("no such file of prompts", where=self.prompts)
        return Path(self.prompts)

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.model import load_model
        from posttrain.render import load_chat
        from posttrain.sampler import Sampling
        from posttrain.sampler.local import Local

        items = list(read_jsonl(self._path(), Item))
        random.Random(self.seed).shuffle(items)
        items = items[: self.limit]
        chat = load_chat(inputs.one("policy"))
        model = load_model(inputs.one("policy"), runtime, train=False)
        how = Sampling(max_new=self.max_new, temperature=self.temperature, seed=self.seed)
        prompts = [chat.prompt(item.messages) for item in items]
        with runtime.progress.task("sample", total=len(prompts) * self.n) as tick:
            groups = asyncio.run(
                Local(model, chat).sample(prompts, self.n, how, on_step=lambda done, tokens: tick(done, tokens=tokens))
            )
        found = [pair for item, group in zip(items, groups) if (pair := best_and_worst(item, group))]
        held = {p.id for p in found if int(digest(p.id), 16) % 1000 < 1000 * self.holdout}
        write_jsonl(out / "train.jsonl", (p for p in found if p.id not in held))
        write_jsonl(out / "holdout.jsonl", (p for p in found if p.id in held))
        tokens = float(sum(len(s.ids) for group in groups for s in group) + sum(map(len, prompts)))
        facts = {"rows": float(len(found)), "prompts": float(len(items)), "tokens": tokens}
        right = [verify(item, s) for item, group in zip(items, groups) for s in group]
        counts = Counter(p.category for p in found)
        return facts | {"right_share": sum(right) / max(1, len(right)), "flops": tokens * model.flops_per_token / 3} | {
            f"pairs.{k}": float(v) for k, v in sorted(counts.items())
        }  # fmt: skip


def verify(item: Item, sample: Sample) -> bool:
    """Whether an answer ended by itself and does what the item asks for."""
    fields: dict[str, Any] = item.model_dump()
    if sample.ended != "stop" or not sample.text.strip():
        return False
    if "answer" in fields:
        return rules.solves(str(fields["answer"]), sample.text)
    if "constraints" in fields:
        return all(rules.check(c, sample.text) for c in fields["constraints"])
    if "label" in fields:
        return rules.is_refusal(sample.text) == (fields["label"] == "harmful")
    raise UserError(
        "an item to verify needs `answer`, `constraints` or `label`", where=item.id,
        remedy="take such items, or import pairs that people made",
    )  # fmt: skip


def best_and_worst(item: Item, samples: Sequence[Sample]) -> Pair | None:
    """The likeliest right answer against the likeliest wrong one. None: all are right, or all are wrong."""
    right = [s for s in samples if verify(item, s)]
    wrong = [s for s in samples if not verify(item, s)]
    if not right or not wrong:
        return None
    chosen, rejected = (max(side, key=lambda s: sum(s.logps) / len(s.logps)) for side in (right, wrong))
    if not rejected.text.strip() or rejected.ended == "malformed":
        return None
    kind = next(k for k in ("answer", "constraints", "label") if k in item.model_dump())
    return Pair(
        id=f"sampled-{item.id}", prompt=item.messages, chosen=Message(role="assistant", content=chosen.text),
        rejected=Message(role="assistant", content=rejected.text), source="rule", category=f"sampled_{kind}",
        reason=REASONS[kind],
    )  # fmt: skip
