"""Learning from a rollout: log-probs of the models involved, credit, minibatches, and the loss of a micro-batch.

`Learner` is the `live` part of the one loop (train.py): when its minibatches are used up it makes the next rollout, and
a checkpoint holds what is left of the present one. A unit of work is a document: a prompt with some of its answers, the
prompt standing once. What the loss needs of every token is computed for the whole rollout before the first update, so
nothing depends on how units fall into micro-batches.

Shapes: N targets of a pack, S answers of the rollout, T longest of them.
Left out on purpose: sampling and judging (rollout.py), what is worth a warning (health.py).
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from posttrain import finite, packing, parallel
from posttrain.errors import UserError
from posttrain.model import Model
from posttrain.objectives import policy, value
from posttrain.objectives.advantage import Outcome
from posttrain.objectives.policy import Tokens
from posttrain.objectives.reduce import Reduction, reduce
from posttrain.rl.algorithms import Algorithm, Correction
from posttrain.rl.critic import Critic, Separate
from posttrain.rl.documents import by_answer, drawn, lengths, padded, per_doc, trimmed, units
from posttrain.rl.health import RECENT
from posttrain.rl.rollout import Group
from posttrain.train import Facts, Rows

AGREE = {torch.float64: 1e-5, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}  # nats, mean over tokens
# of the learner, in a checkpoint
KEPT = ("rollout", "coef", "bonus", "rate", "asked", "present", "history", "warned", "acted", "made", "ahead", "age")
STEER = 0.1  # K_beta of arXiv:1909.08593, section 2.2
BONUS = 0.005  # by how much a rollout may change the price of entropy: arXiv:2505.22312, section 4
Collect = Callable[[int], tuple[list[Group], dict[str, float]]]  # number of the rollout -> groups, facts


@dataclass(frozen=True)
class How:
    """The learner's knobs: those of the stage that concern a rollout in hand."""

    temperature: float
    max_new: int
    epochs: int
    minibatches: int
    micro_tokens: int
    seed: int = 0
    pad_id: int = 0
    mask_unfinished: bool = False
    normalise: bool = False
    max_staleness: int = 0
    rollouts: int = 2**31  # in all: none is made ahead that would not be used

    @property
    def updates(self) -> int:
        """Optimiser steps for each rollout."""
        return self.epochs * self.minibatches


@dataclass
class Running:
    """Mean and variance of all rewards so far (Welford)."""

    n: int = 0
    mean: float = 0.0
    square: float = 0.0

    def add(self, x: float) -> None:
        self.n += 1
        before = x - self.mean
        self.mean += before / self.n
        self.square += before * (x - self.mean)

    @property
    def std(self) -> float:
        return max((self.square / max(1, self.n - 1)) ** 0.5, 1e-4)


@dataclass
class Batch:
    """A rollout ready to learn from: documents, one tensor for each document and column, minibatches still to come.
    shares: of each of these, what the documents with a gradient are of its denominator."""

    docs: list[packing.Doc] = field(default_factory=list)
    columns: dict[str, list[Tensor]] = field(default_factory=dict)
    queue: list[list[list[int]]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


class Learner:
    """stop, rate, after: the loop's. watch: called when a rollout has been learned from, with its last log entry."""

    def __init__(
        self,
        model: Model,
        reference: Callable[[packing.Pack], Tensor] | None,
        critic: Critic | None,
        algorithm: Algorithm,
        how: How,
        collect: Collect,
        watch: Callable[["Learner", dict[str, Any]], None] = lambda learner, entry: None,
    ):
        self.model, self.reference, self.critic, self.algorithm = model, reference, critic, algorithm
        self.how, self.collect, self.watch = how, collect, watch
        self.credit, self.objective = algorithm.credit.bind(), algorithm.loss.bind()
        self.correction = algorithm.correction or (Correction() if how.max_staleness else None)
        self.rows = Rows([], [], [])
        self.batch, self.running = Batch(), Running()
        self.rollout, self.coef, self.stop = 0, algorithm.kl.coef, False
        self.bonus, self.rate = algorithm.entropy, 1.0  # price of entropy; share of the learning rates
        self.asked: dict[str, Any] = {}  # what `collect` knows of its prompts
        self.made, self.age = 0, 0  # rollouts made; rollouts that were learned from since the present one was made
        self.ahead: list[tuple[int, list[Group], dict[str, float]]] = []  # not learned from yet: (when, groups, facts)
        self.news: dict[str, Any] = {}  # of the present rollout, until its first step is logged
        self.present: dict[str, Any] = {}  # the same rollout with what its updates said
        self.history: list[dict[str, Any]] = []  # of the rollouts and evaluations before
        self.warned: dict[str, str] = {}
        self.acted: dict[str, int] = {}  # action of `health` -> the rollout in which it was last taken
        self.tokens = 0.0  # targets of the present step: the denominator of the critic's loss
        self.share = 1.0  # of the present step: see Batch.shares
        self.most: dict[str, float] = {}

    # ---- what the loop asks for ----------------------------------------------------------------------------------

    def batches(self) -> Iterator[list[list[int]]]:
        """Micro-batches of each optimiser step, rollout after rollout."""
        while True:
            if not self.batch.queue:
                self._next_rollout()
            micro, self.share = self.batch.queue.pop(0), self.batch.shares.pop(0)
            self.tokens = float(sum(len(self.batch.columns["adv"][i]) for m in micro for i in m))
            self.most = {}
            yield micro

    def after(self, entry: dict[str, Any]) -> None:
        if finite.KEY not in entry:
            if self.critic:
                entry["critic_norm"] = self.critic.step(self.rate)
            parts = parallel.gather(self.most)  # a rank saw its own micro-batches only
            entry |= {k: (max if k == "ratio_max" else min)(p[k] for p in parts if k in p) for k in parts[0]}
        entry |= self.news
        self.present |= {k: v for k, v in entry.items() if not k.startswith("held_")}
        self.news = {}
        if not self.batch.queue:  # the rollout has been learned from
            self.history.append(self.present)
            self._reprice(self.present.get("entropy"))
            self.present = {}
            self.watch(self, entry)

    def finite(self) -> bool:
        return self.critic is None or self.critic.finite()

    def drop(self) -> None:
        if self.critic:
            self.critic.master.drop()

    def may(self, action: str) -> bool:
        """Whether `health` may do this now: once in a few rollouts, so that the last time can show its effect."""
        if self.rollout - self.acted.get(action, -RECENT) < RECENT:
            return False
        self.acted[action] = self.rollout
        return True

    def state(self) -> dict[str, Any]:
        critic = self.critic.state() if self.critic else None
        return {
            "batch": tuple(vars(self.batch).values()), "rows": vars(self.rows),
            "running": asdict(self.running), "critic": critic, **{name: getattr(self, name) for name in KEPT},
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.batch, self.running = Batch(*state["batch"]), Running(**state["running"])
        self._set_rows(**state["rows"])
        for name in KEPT:  # a checkpoint of an earlier version may lack one
            setattr(self, name, state.get(name, getattr(self, name)))
        if self.critic:
            self.critic.restore(state["critic"])

    # ---- a new rollout -------------------------------------------------------------------------------------------

    def _next_rollout(self) -> None:
        groups, facts = self._oldest()
        docs, owner = units(groups, self.how.micro_tokens)
        answers = [(groups[g], j) for own in owner for g, j in own]
        columns = self._scored(docs)
        columns["behaviour"] = per_doc([drawn(g.samples[j]) for g, j in answers], docs)
        if self.rollout == 0:
            self._check_agreement(columns)
        facts |= self._credit([gj for own in owner for gj in own], groups, docs, columns)
        names = [groups[own[0][0]].ask.id or f"prompt {own[0][0]}" for own in owner]
        counts = [self._count(doc, keep_N) for doc, keep_N in zip(docs, columns["keep"])]
        self.batch = Batch(docs, columns, *self._minibatches(docs, counts, self._idle(columns)))
        self._set_rows([packing.size(d) for d in docs], counts, names)
        self.news = {"rollout": float(self.rollout), **facts, "kl_coef": self.coef} | packing.saving(docs)
        if self.algorithm.entropy or self.algorithm.entropy_target:
            self.news["entropy_coef"] = self.bonus
        self.rollout += 1
        self._steer(facts.get("kl_answer", 0.0))

    def _oldest(self) -> tuple[list[Group], dict[str, float]]:
        """The rollout to learn from. With max_staleness k it was made k rollouts ago: as many wait in a queue, made
        with the weights of then, as they would on other machines that sample while this one trains."""
        while self.made < self.how.rollouts and len(self.ahead) <= self.how.max_staleness:
            self.ahead.append((self.rollout, *self.collect(self.made)))
            self.made += 1
        when, groups, facts = self.ahead.pop(0)
        self.age = self.rollout - when
        return groups, facts | ({"staleness": float(self.age)} if self.how.max_staleness else {})

    def _set_rows(self, sizes: list[int], counts: list[float], names: list[str]) -> None:
        """The loop keeps the same three lists, so they are filled anew."""
        for mine, new in ((self.rows.sizes, sizes), (self.rows.counts, counts), (self.rows.names, names)):
            mine[:] = new  # type: ignore[index]

    def _count(self, doc: packing.Doc, keep_N: Tensor) -> float:
        """What a document adds to the denominator of the policy's loss."""
        if self.algorithm.aggregate == "token":
            return float(keep_N.sum())
        kept = sum(bool(k.any()) for k in keep_N.split(lengths(doc)))
        return float(kept * (self.how.max_new if self.algorithm.aggregate == "constant" else 1))

    @torch.no_grad()
    def _scored(self, docs: Sequence[packing.Doc]) -> dict[str, list[Tensor]]:
        """Columns old, value and ref, as far as they are needed.

        With one update a rollout the policy's own log-probs come with the update itself; the first rollout needs them
        to be compared with the sampler's. `old` is the policy before this rollout's updates, whoever drew it.
        """
        wants_old = self.how.updates > 1 or self.critic or self.algorithm.kl.where == "reward" or self.rollout == 0
        columns: dict[str, list[Tensor]] = {}

        def score(item: tuple[list[int], packing.Pack]) -> dict[str, Tensor]:
            found: dict[str, Tensor] = {}
            if wants_old:
                found["old"], _, h_ND = self.model.logps_and_hidden(item[1], temperature=self.how.temperature)
                if self.critic:
                    found["value"] = self.critic.values(item[1], h_ND)
            return found | ({"ref": self.reference(item[1])} if self.reference else {})

        plan = packing.plan([packing.size(d) for d in docs], self.how.micro_tokens, seed=None)
        packs = ((indices, self._pack(docs, indices)) for indices in plan)
        for (indices, _), found in parallel.each(packs, score, lambda item: item[1].tokens):
            for name, x_N in found.items():
                column = columns.setdefault(name, [x_N] * len(docs))
                for i, part_N in zip(indices, x_N.split([sum(lengths(docs[i])) for i in indices])):
                    column[i] = part_N.clone()
        return columns

    @torch.no_grad()
    def distance(self, groups: Sequence[Group]) -> dict[str, float]:
        """KL to the reference on answers that were not learned from, nats an answer by k3; nothing without one."""
        if not self.reference:
            return {}
        docs, owner = units(groups, self.how.micro_tokens)
        behaviour = per_doc([drawn(groups[g].samples[j]) for own in owner for g, j in own], docs)
        total = 0.0
        for indices in packing.plan([packing.size(d) for d in docs], self.how.micro_tokens, seed=None):
            ref_N = self.reference(self._pack(docs, indices))
            total += float(policy.kl(torch.cat([behaviour[i] for i in indices]), ref_N, "k3").double().sum())
        return {"kl": total / sum(len(own) for own in owner)}

    def _pack(self, docs: Sequence[packing.Doc], indices: Sequence[int]) -> packing.Pack:
        return packing.build([docs[i] for i in indices], pad_to=self.how.micro_tokens, pad_id=self.how.pad_id)

    def _check_agreement(self, columns: dict[str, list[Tensor]]) -> None:
        """Sampler and trainer must mean the same distribution: everything after this rests on it."""
        apart = float((torch.cat(columns["old"]) - torch.cat(columns["behaviour"])).abs().mean())
        if not apart <= AGREE[self.model.dtype]:
            raise UserError(
                f"sampler and trainer disagree about the same tokens by {apart:.3g} nats on average, "
                f"{AGREE[self.model.dtype]:g} is the precision of {self.model.dtype}",
                remedy="precision: fp32; if it stays, this architecture is not sampled right: please report it",
            )

    def _credit(
        self,
        answers: Sequence[tuple[int, int]],
        groups: Sequence[Group],
        docs: Sequence[packing.Doc],
        columns: dict[str, list[Tensor]],
    ) -> dict[str, float]:
        """Fill the columns adv, return and keep; facts of the rollout. answers: (group, sample), in order."""
        split = [x for c in ("old", "behaviour") if c in columns for x in by_answer(columns[c], docs)][: len(answers)]
        mask_ST = padded([torch.ones(len(x)) for x in split]).bool()
        reward_ST = torch.zeros(mask_ST.shape)
        last_S = mask_ST.sum(-1) - 1
        score_S = torch.tensor(self._normal([groups[g].reward[j] for g, j in answers]))
        facts = {}
        if "ref" in columns:
            old_ST, ref_ST = padded(split), padded(by_answer(columns["ref"], docs))
            facts = self._kl_facts(old_ST, ref_ST, mask_ST)
            if self.algorithm.kl.where == "reward":
                reward_ST -= self.coef * policy.kl(old_ST, ref_ST, self.algorithm.kl.estimator) * mask_ST
        for s, (g, j) in enumerate(answers):  # what a step of the answer earned stands there, the rest at its end
            for at, part in groups[g].steps.get(j, ()):
                part /= self.running.std if self.how.normalise else 1.0
                reward_ST[s, at] += part
                score_S[s] -= part
        reward_ST[torch.arange(len(answers)), last_S] += score_S
        value_ST = padded(by_answer(columns["value"], docs)) if "value" in columns else None
        group_S = torch.tensor([g for g, _ in answers])
        adv_ST, return_ST = self.credit(Outcome(reward_ST, mask_ST, group_S, value_ST))
        if value_ST is not None:
            facts["explained"] = value.explained_variance(value_ST[mask_ST], return_ST[mask_ST])
            facts["value"] = float(value_ST[mask_ST].mean())
        kept = [not (self.how.mask_unfinished and groups[g].samples[j].ended != "stop") for g, j in answers]
        ones = [torch.full((int(n) + 1,), float(k)) for n, k in zip(last_S, kept)]
        for name, rows in (("adv", trimmed(adv_ST, mask_ST)), ("return", trimmed(return_ST, mask_ST)), ("keep", ones)):
            columns[name] = per_doc(rows, docs)
        return facts | {"adv_std": float(adv_ST[mask_ST].std()) if int(mask_ST.sum()) > 1 else 0.0}

    def _normal(self, rewards: Sequence[float]) -> list[float]:
        """The rewards in standard deviations from the mean of all so far, if that is asked for. Those of one rollout
        are measured alike: equal ones stay equal, so a group without spread has none afterwards."""
        if not self.how.normalise:
            return list(rewards)
        for reward in rewards:
            self.running.add(reward)
        return [(reward - self.running.mean) / self.running.std for reward in rewards]

    @staticmethod
    def _kl_facts(old_ST: Tensor, ref_ST: Tensor, mask_ST: Tensor) -> dict[str, float]:
        """KL to the reference: nats a token by two estimators, and nats an answer."""
        k1_ST = policy.kl(old_ST, ref_ST, "k1") * mask_ST
        k3_ST = policy.kl(old_ST, ref_ST, "k3") * mask_ST
        n = float(mask_ST.sum())
        return {
            "kl_k1": float(k1_ST.sum()) / n,
            "kl_k3": float(k3_ST.sum()) / n,
            "kl_answer": float(k1_ST.sum(-1).mean()),
        }

    def _steer(self, kl_answer: float) -> None:
        """The adaptive controller of arXiv:1909.08593, eq. 4: a tenth of a clipped relative error."""
        if self.algorithm.kl.target:
            error = kl_answer / self.algorithm.kl.target - 1
            self.coef *= 1 + STEER * min(0.2, max(-0.2, error))

    def _reprice(self, entropy: float | None) -> None:
        """The price of entropy, dearer while the policy has less of it than its target: arXiv:2505.22312, section 4."""
        target = self.algorithm.entropy_target
        if target and entropy is not None:
            self.bonus = max(0.0, self.bonus + (BONUS if entropy < target else -BONUS))

    def _idle(self, columns: dict[str, list[Tensor]]) -> set[int]:
        """Documents that have no gradient: their answers all have the same reward, and nothing else pulls at them."""
        if self.critic or self.bonus or self.algorithm.kl.where == "loss":
            return set()
        return {i for i, (a, k) in enumerate(zip(columns["adv"], columns["keep"])) if not bool((a * k).any())}

    def _minibatches(
        self, docs: Sequence[packing.Doc], counts: Sequence[float], idle: set[int]
    ) -> tuple[list[list[list[int]]], list[float]]:
        """The optimiser steps of this rollout, and their shares: every document once an epoch, in an order of its own.
        Those without a gradient are counted and left out, but for one where there is no other."""
        steps, shares = [], []
        for epoch in range(self.how.epochs):
            order = list(range(len(docs)))
            seed = f"{self.how.seed}/{self.rollout}/{epoch}"
            random.Random(seed).shuffle(order)
            cuts = [round(k * len(docs) / self.how.minibatches) for k in range(self.how.minibatches + 1)]
            for a, b in pairwise(cuts):
                part = order[a:b]
                whole = sum(counts[i] for i in part)
                part = [i for i in part if i not in idle] or part[:1]
                shares.append(sum(counts[i] for i in part) / max(whole, 1.0))
                plan = packing.plan([packing.size(docs[i]) for i in part], self.how.micro_tokens, seed=None)
                steps.append([[part[k] for k in micro] for micro in plan])
        return steps, shares

    # ---- the loss of a micro-batch ---------------------------------------------------------------------------------

    def loss(self, indices: Sequence[int], total: float) -> tuple[Tensor, Facts]:
        """(scalar, facts) of some documents; total: the step's denominator, as `_count` counts, of all that it gets."""
        pack, columns = self._pack(self.batch.docs, indices), self.batch.columns
        at = {name: torch.cat([column[i] for i in indices]) for name, column in columns.items()}
        logp_N, entropy_N, h_ND = self.model.logps_and_hidden(pack, temperature=self.how.temperature)
        old_N = at.get("old", logp_N.detach())
        tokens = Tokens(logp_N, old_N, at["adv"], pack.branch_N, pack.branches)
        loss_N = self._token_loss(tokens, at, entropy_N) * at["keep"]
        scalar = self.share * reduce(loss_N, self._how_reduced, max(total, 1.0), pack.branch_N, pack.branches)
        if self.algorithm.critic and self.rollout <= self.algorithm.critic.warmup:
            scalar, h_ND = scalar * 0.0, h_ND.detach()
        facts = self._facts(tokens, at, entropy_N.detach())
        share = sum(self.rows.counts[i] for i in indices) / max(total, 1.0)
        facts["loss"] = float(scalar.detach()), share
        if self.critic:
            loss = self._critic_loss(self.critic.values(pack, h_ND), at, self.tokens if total < math.inf else math.inf)
            facts["value_loss"] = float(loss.detach()) * self.tokens, float(len(old_N))
            if isinstance(self.critic, Separate):
                self.critic.learn(loss)
            else:
                assert self.algorithm.critic
                scalar = scalar + self.algorithm.critic.coef * loss
        return scalar, facts

    @property
    def _how_reduced(self) -> Reduction:
        return "sequence" if self.algorithm.aggregate == "sequence" else "token"

    def _token_loss(self, t: Tokens, at: dict[str, Tensor], entropy_N: Tensor) -> Tensor:
        """Policy loss, importance weights, KL and entropy, for every token."""
        loss_N = self.objective(t)
        if c := self.correction:
            weight_N = policy.importance(
                t.old_N, at["behaviour"], t.sequence_N, t.sequences, level=c.level, cap=c.cap, how=c.how
            )
            loss_N = loss_N * weight_N
        if self.algorithm.kl.where == "loss":
            loss_N = loss_N + self.coef * policy.kl(t.logp_N, at["ref"], self.algorithm.kl.estimator)
        return loss_N - self.bonus * entropy_N if self.bonus else loss_N

    def _critic_loss(self, value_N: Tensor, at: dict[str, Tensor], total: float) -> Tensor:
        """Mean over the whole step's tokens."""
        assert self.algorithm.critic
        return value.clipped(value_N, at["value"], at["return"], clip=self.algorithm.critic.range).sum() / total

    def _facts(self, t: Tokens, at: dict[str, Tensor], entropy_N: Tensor) -> Facts:
        """What is logged of a micro-batch: drift is KL(old || new), mismatch KL(sampler || trainer), off_policy that of
        a rollout of older weights, nats a token; capped: share of importance weights above their cap."""
        logp_N, n = t.logp_N.detach(), float(len(t.old_N))
        now = t._replace(logp_N=logp_N)
        rho_N = policy.ratio(logp_N, t.old_N)
        self.most["ratio_max"] = max(self.most.get("ratio_max", 1.0), float(rho_N.max()))
        self.most["ratio_min"] = min(self.most.get("ratio_min", 1.0), float(rho_N.min()))
        low, high = (float(getattr(self.algorithm.loss, k, 1e9)) for k in ("low", "high"))
        level = policy.LEVELS.get(str(self.algorithm.loss.type), "token")
        sums = {
            "entropy": entropy_N, "clipped": policy.clipped_share(now, low, high, level),
            "drift": policy.kl(t.old_N, logp_N, "k3"),
            "off_policy" if self.age else "mismatch": policy.kl(at["behaviour"], t.old_N, "k3"),
        }  # fmt: skip
        if self.age and self.correction:
            ids, c = (t.sequence_N, t.sequences), self.correction
            weight_N = policy.importance(t.old_N, at["behaviour"], *ids, level=c.level, cap=math.inf)
            sums["capped"] = (weight_N > c.cap).float()
        if "ref" in at:
            sums["kl"] = policy.kl(logp_N, at["ref"], "k3")
        return {name: (float(x_N.double().sum()), n) for name, x_N in sums.items()}
