"""A judge made of reward models: the mean of all their members, centred, less a penalty for doubt.

Members of one model share its trunk, models trained with other seeds share nothing: both are put together the same
way. Comparisons leave each member's zero open, so its mean over held-out answers is taken off before (reward.json).
Left out on purpose: caching; samplers, which give token ids (score_docs takes those).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from posttrain.errors import UserError
from posttrain.judge.base import Answered
from posttrain.packing import Doc, size
from posttrain.pipeline import Runtime
from posttrain.render import Chat, load_chat
from posttrain.reward_model import RewardModel, answers_doc, load_reward, score_docs
from posttrain.rows import Message, Messages, Verdict


class Scorer(NamedTuple):
    """One reward model: its template and what to take off each member's score."""

    model: RewardModel
    chat: Chat
    mean_M: Tensor


class RewardJudge:
    """A Judge. penalty k: score = mean - k x standard deviation over all members, so that answers they
    have never learned from pay (uncertainty-weighted optimisation of arXiv:2310.02743, with the standard deviation).

    Answers to one prompt share it. An answer that does not fit into micro_tokens with its prompt gets no score.
    """

    def __init__(self, scorers: Sequence[Scorer], *, penalty: float = 0.0, micro_tokens: int = 4096):
        self.scorers, self.penalty, self.micro_tokens = scorers, penalty, micro_tokens
        members = sum(s.model.members for s in scorers)
        if penalty and members < 2:
            raise UserError(
                "a penalty for disagreement needs two members or more", where="penalty",
                remedy="members: 4 in the reward stage, or several reward models",
            )  # fmt: skip

    @classmethod
    def load(cls, folders: Sequence[Path], runtime: Runtime, *, penalty: float = 0.0, micro_tokens: int = 4096) -> Self:
        """Artefacts of reward stages, or any folder of a sequence classifier (whose mean is then taken as 0)."""
        if not folders:
            raise UserError("a judge of reward models needs at least one", where="reward")
        return cls([scorer(f, runtime) for f in folders], penalty=penalty, micro_tokens=micro_tokens)

    async def score(self, items: Sequence[Answered]) -> list[Verdict]:
        if not items:
            return []
        parts = [self._scores(s, items) for s in self.scorers]
        return [self._verdict([p[n] for p in parts]) for n in range(len(items))]

    def _verdict(self, parts: Sequence[Tensor | None]) -> Verdict:
        found = [p for p in parts if p is not None]
        if len(found) < len(parts):
            return Verdict(score=None, detail={"abstained": f"longer than {self.micro_tokens} tokens"})
        score_M = torch.cat(found).double()
        detail: dict[str, object] = {"scores": score_M.tolist()}
        std = float(score_M.std()) if len(score_M) > 1 else 0.0
        if len(score_M) > 1:
            detail["std"] = std  # one member alone has no doubt, which is not the same as being sure
        return Verdict(score=float(score_M.mean()) - self.penalty * std, detail=detail)

    def _scores(self, s: Scorer, items: Sequence[Answered]) -> list[Tensor | None]:
        """Centred scores [M] of every item by one model; None where it is too long."""
        found: list[Tensor | None] = [None] * len(items)
        docs: list[Doc] = []
        owners: list[list[int]] = []
        for numbers in by_prompt(items):
            answers = [Message(role="assistant", content=items[n].answer) for n in numbers]
            doc = answers_doc(s.chat, items[numbers[0]].prompt, answers)
            for part, own in fitting(doc, numbers, self.micro_tokens):
                docs.append(part)
                owners.append(own)
        for own, score_AM in zip(
            owners, score_docs(s.model, docs, micro_tokens=self.micro_tokens, pad_id=s.chat.pad_id)
        ):
            for n, score_M in zip(own, score_AM.cpu() - s.mean_M):
                found[n] = score_M
        return found


def scorer(folder: Path, runtime: Runtime) -> Scorer:
    model, path = load_reward(folder, runtime), Path(folder) / "reward.json"
    known = json.loads(path.read_text())["scores"]["mean"] if path.exists() else [0.0] * model.members
    return Scorer(model, load_chat(folder), torch.tensor(known))


def by_prompt(items: Sequence[Answered]) -> list[list[int]]:
    """Numbers of the items that share a prompt, prompt after prompt."""
    found: dict[Messages, list[int]] = {}
    for n, item in enumerate(items):
        found.setdefault(item.prompt, []).append(n)
    return list(found.values())


def fitting(doc: Doc, numbers: Sequence[int], most: int) -> list[tuple[Doc, list[int]]]:
    """The document cut into documents of at most `most` tokens, answers that are too long by themselves left out."""
    parts: list[tuple[Doc, list[int]]] = []
    for n, branch in zip(numbers, doc.branches):
        alone = Doc(doc.prefix, [branch])
        if size(alone) > most:
            continue
        if parts and size(parts[-1][0]) + len(branch.ids) <= most:
            last, own = parts[-1]
            parts[-1] = (Doc(last.prefix, [*last.branches, branch]), [*own, n])
        else:
            parts.append((alone, [n]))
    return parts
