"""Reinforcement learning: the policy answers, judges score, the policy learns from it; PPO, GRPO and their kin.

One step is one rollout: `prompts_per_step` prompts with `group` answers each, `epochs` x `minibatches` updates. Sampler
and trainer share the weights. Prompts come with what a right answer is (their `meta`), rewards are judges.
An `env` makes conversations of several turns of it (rl/environments.py).
Left out on purpose: the algorithms (rl/algorithms.py), the loop (train.py, rl/learner.py). Importing this file does not
import torch.
"""

import asyncio
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from posttrain.errors import UserError
from posttrain.judge.base import Judge
from posttrain.lora import Lora
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage
from posttrain.rl import rewards as named
from posttrain.rl.algorithms import AnyAlgorithm, is_grouped
from posttrain.rl.asks import Asks, Rollouts, Serving, asks_of
from posttrain.rl.environments import AnyEnvironment, World
from posttrain.rl.health import LOWER, RAISE, Health
from posttrain.rl.rollout import Ask, Draw, Group, Shaping, Shared, Weighed, alone, answered, collect, drawn, spoken
from posttrain.rows import Prompt, Sample
from posttrain.sampler.base import Sampling
from posttrain.stages.training import cost, read_rows

if TYPE_CHECKING:
    from torch import Tensor

    from posttrain.model import Model
    from posttrain.packing import Pack
    from posttrain.render import Chat
    from posttrain.rl.critic import Critic
    from posttrain.rl.learner import Learner
    from posttrain.sampler.server import Server
    from posttrain.train import Cursor

SEEDS = 64  # sampling seeds that belong to one rollout
WATCHED = 128  # held-out prompts that are answered in an evaluation
DONE = {  # what the report says was done about an alarm
    "raise_kl": " (the price of KL was raised)", "lower_lr": " (the learning rate was lowered)",
    "stop": " (training ended there and went back to the best checkpoint)",
}  # fmt: skip


class Rl(Stage):
    """rewards: judges by name; their weighted sum is the reward. gold: a judge that nothing is learned from, asked on
    held-out prompts beside the reward. group: answers to a prompt. lr is constant. env: who answers the policy, so that
    it speaks again; sampling.max_new is about one answer. shaping: rollout.Shaping, rollouts: asks.Rollouts."""

    makes: ClassVar[Kind] = "policy"
    resumes: ClassVar[bool] = True
    together: ClassVar[bool] = True

    type: Literal["rl"] = "rl"
    policy: Annotated[str, Ref("policy")]
    prompts: Annotated[tuple[str, ...] | str, Ref("prompts")]
    reward_models: Annotated[tuple[str, ...] | str | None, Ref("reward")] = None
    reference: Annotated[str | None, Ref("policy")] = None  # the policy itself as it was, if not set
    algorithm: AnyAlgorithm = {"type": "grpo"}  # type: ignore[valid-type]
    rewards: dict[str, named.AnyReward] = Field(min_length=1)  # type: ignore[valid-type]
    gold: named.AnyReward | None = None  # type: ignore[valid-type]
    env: AnyEnvironment | None = None  # type: ignore[valid-type]
    sampling: Sampling = Sampling(max_new=128, temperature=1.0)
    shaping: Shaping = Shaping()
    rollouts: Rollouts = Rollouts()
    steps: int = Field(default=100, ge=1)  # rollouts
    prompts_per_step: int = Field(default=8, ge=1)
    group: int = Field(default=8, ge=1)
    epochs: int = Field(default=1, ge=1)
    minibatches: int = Field(default=1, ge=1)
    lora: Lora | None = None
    lr: float = Field(default=1e-6, gt=0)
    micro_tokens: int = Field(default=4096, ge=32)  # tokens held in memory at once
    eval_every: int = Field(default=0, ge=0)  # rollouts between evaluations on held-out prompts; 0: first and last
    health: Health = Health()
    seed: int = Field(default=0, ge=0, lt=2**24)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        how = self.sampling
        if how.truncates or how.penalises or how.temperature == 0:
            cut = "top_p, top_k or min_p" if how.truncates else "a repetition_penalty"
            raise UserError(
                "the trainer scores tokens under the whole distribution, so ratios would be wrong with "
                + ("greedy answers" if how.temperature == 0 else cut),
                where="sampling", remedy="temperature alone; lower it instead of cutting the distribution",
            )  # fmt: skip
        if is_grouped(self.algorithm) and self.group < 2:
            raise UserError(
                "answers are compared within their group, so one is not enough", where="group", remedy="group: 8"
            )
        if self.minibatches > self.prompts_per_step:
            raise UserError("there are more minibatches than prompts in a step", where="minibatches")
        if "raise_kl" in self.health.actions() and self.algorithm.kl.where == "none":
            raise UserError(
                "raise_kl needs a KL that costs something", where="health", remedy="algorithm.kl.where: loss"
            )
        if self.health.reward_hacking not in ("off", "warn") and (self.gold is None or not self.eval_every):
            raise UserError(
                f"reward_hacking: {self.health.reward_hacking} compares what a gold judge says of one evaluation and "
                "the next, and there is " + ("none" if self.gold is None else "no evaluation between first and last"),
                where="health", remedy="gold: {type: asked}, or another judge, with eval_every: 10",
            )  # fmt: skip
        return self

    @model_validator(mode="before")
    @classmethod
    def _whole_row(cls, given: Any) -> Any:
        """DAPO's row of the table has shaping of overlong answers, which is a knob of this stage: eq. 13 with the
        paper's numbers, a penalty that grows over the last fifth of max_new, unless `shaping` says otherwise."""
        a = given.get("algorithm") if isinstance(given, Mapping) else None
        if (a.get("type") if isinstance(a, Mapping) else getattr(a, "type", "")) != "dapo" or "shaping" in given:
            return given
        how = given.get("sampling", cls.model_fields["sampling"].default)
        longest = how.get("max_new", 128) if isinstance(how, Mapping) else how.max_new
        return {**given, "shaping": {"penalty": 1.0, "buffer": longest // 5 if isinstance(longest, int) else 0}}

    def identity(self) -> dict[str, str]:
        found = named.source_identity(self.rewards | ({"gold": self.gold} if self.gold else {}))
        return found | (named.source_of("env", self.env.function) if self.env and self.env.type == "python" else {})

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain import adamw, train

        work = Work(self, inputs, out, runtime)
        learner = work.learner
        updates = self.epochs * self.minibatches
        optim = adamw.Optim(self.lr, "constant", clip=self.algorithm.max_norm, moments=runtime.moments)
        rollback = "stop" in self.health.actions()
        if work.model.device.type == "cuda":  # on a CPU most of a step is sampling
            work.model.compile(self.steps * updates)
        with asyncio.Runner() as work.loop:
            cursor = train.train(
                work.model, learner.rows, learner.loss, optim=optim, steps=self.steps * updates,
                batches=learner.batches(), out=out, progress=runtime.progress, live=learner,
                evaluate=work.evaluate if work.held else None, eval_every=self.eval_every * updates,
                patience=10**9 if rollback else 0, not_finite=runtime.not_finite,
            )  # fmt: skip
        work.model.save(out)
        work.chat.save(out)
        train.finish(out)
        return summary(cursor) | cost(cursor, work.model.flops_per_token) | {"warnings": float(len(learner.warned))}

    def judges(self, wanted: Mapping[str, Any], inputs: Inputs, out: Path, runtime: Runtime) -> dict[str, Weighed]:
        """Judges ready to be asked; reward models are loaded, replies of language models kept in `out`."""
        return {
            name: Weighed(self._judge(name, reward, inputs, out, runtime), reward.weight)
            for name, reward in wanted.items()
        }

    def _judge(self, name: str, reward: Any, inputs: Inputs, out: Path, runtime: Runtime) -> Judge:
        if reward.type == "llm":
            asked: Judge = reward.bind()(out / f"replies-{name}.db")
            return asked
        if reward.type != "reward_model":
            return Shared(reward.bind()())
        from posttrain.reward_judge import RewardJudge

        names = self.edges()["reward_models"]
        if not names or (reward.stage and reward.stage not in names):
            raise UserError(
                f"the reward model {reward.stage or '(any)'!r} is not among the stage's reward_models",
                where=f"rewards.{name}", remedy="reward_models: the name of a reward stage",
            )  # fmt: skip
        folders = [f for n, f in zip(names, inputs.many("reward_models")) if reward.stage in ("", n)]
        return RewardJudge.load(folders, runtime, penalty=reward.penalty, micro_tokens=self.micro_tokens)


class Work:
    """Everything that a running rl stage holds on to."""

    def __init__(self, stage: Rl, inputs: Inputs, out: Path, runtime: Runtime):
        from posttrain.loading import load_model
        from posttrain.render import load_chat
        from posttrain.rl.learner import How, Learner
        from posttrain.sampler.local import Local

        self.stage, self.runtime, self.loop = stage, runtime, asyncio.Runner()
        self.chat: Chat = load_chat(inputs.one("policy"))
        self.world = World(stage.env, self.chat) if stage.env else None
        asks = self._asks(read_rows(inputs.many("prompts"), "train.jsonl", Prompt), out)
        self.asks = Asks(asks, stage.seed, curriculum=stage.rollouts.curriculum)
        self.held = self._asks(read_rows(inputs.many("prompts"), "holdout.jsonl", Prompt), None)
        self.judges = stage.judges(stage.rewards, inputs, out, runtime)
        self.gold = stage.judges({"gold": stage.gold} if stage.gold else {}, inputs, out, runtime)
        self.model: Model = load_model(inputs.one("policy"), runtime, train=True, lora=stage.lora)
        self.sampler: Local = Local(self.model, self.chat, batch=64)
        self.server = server(stage.rollouts.server, self.chat) if stage.rollouts.server else None
        self.served = -1  # version of the weights that the server has
        self.critic = self._critic(inputs)
        a = stage.algorithm
        how = How(
            temperature=stage.sampling.temperature, epochs=stage.epochs,
            max_new=stage.sampling.max_new * (stage.env.turns if stage.env else 1),
            minibatches=stage.minibatches, micro_tokens=stage.micro_tokens, seed=stage.seed, pad_id=self.chat.pad_id,
            mask_unfinished=stage.shaping.mask, normalise=stage.shaping.normalise,
            max_staleness=stage.rollouts.max_staleness, rollouts=stage.steps,
        )  # fmt: skip
        reference = self._reference(inputs) if a.kl.where != "none" or a.kl.watch else None
        self.learner: Learner = Learner(self.model, reference, self.critic, a, how, self.collect, self.watch)
        runtime.progress.say(f"  {len(self.asks.asks)} prompts, {len(self.held)} held out; {self.model.said}")
        if not self.held and (stage.gold or stage.eval_every):
            runtime.progress.say("  warning: no prompt is held out, so nothing is evaluated and no gold judge is asked")

    def _asks(self, rows: Sequence[Prompt], out: Path | None) -> list[Ask]:
        """Prompts with room for an answer. What is too long is an error, or goes to the ledger."""
        room = self.world.room(self.stage.sampling.max_new) if self.world else self.stage.sampling.max_new
        most = min(self.stage.micro_tokens, context(self.chat)) - room
        if self.world:
            rows = [r.model_copy(update={"messages": self.world.told(r.messages)}) for r in rows]
        asks = asks_of(rows, self.chat.prompt)
        long = [a for a in asks if len(a.ids) > most]
        if long and (self.stage.rollouts.too_long == "error" or len(long) == len(asks)):
            worst = max(long, key=lambda a: len(a.ids))
            raise UserError(
                f"{len(long)} of {len(asks)} prompts leave no room for {room} new tokens; the "
                f"longest has {len(worst.ids):,} tokens, {max(0, most):,} fit",
                where=worst.id,
                remedy="a larger micro_tokens, a smaller sampling.max_new"
                + (", env.turns or env.longest" if self.world else "") + ", or rollouts.too_long: drop",
            )  # fmt: skip
        if out is not None:
            lines = [
                {"row": a.id, "tokens": len(a.ids), "action": "dropped", "reason": "prompt too long"} for a in long
            ]
            (out / "ledger.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return [a for a in asks if len(a.ids) <= most]

    def _critic(self, inputs: Inputs) -> "Critic | None":
        from posttrain.rl.critic import LAYER, Trunk, separate

        knobs = self.stage.algorithm.critic
        if knobs is None:
            return None
        if not knobs.separate:
            return Trunk(self.model, lr=knobs.lr or LAYER)
        return separate(inputs.one("policy"), self.runtime, lr=knobs.lr or self.stage.lr, clip=knobs.clip)

    def _reference(self, inputs: Inputs) -> "Callable[[Pack], Tensor]":
        """The policy as it was: its adapter switched off, or a frozen copy; or another policy."""
        import torch

        from posttrain.loading import load_model

        temperature = self.stage.sampling.temperature
        own = self.stage.reference is None and self.model.adapted
        copy = self.model if own else load_model(inputs.one("reference" if self.stage.reference else "policy"),
                                                 self.runtime, train=False)  # fmt: skip

        def logps(pack: "Pack") -> "Tensor":
            with torch.no_grad(), copy.reference():
                found: Tensor = copy.token_logps(pack, temperature=temperature)
                return found

        return logps

    def collect(self, number: int) -> tuple[list[Group], dict[str, float]]:
        """Rollout `number`. Its prompts and its draws depend on nothing but the seed, the number and the weights."""
        s = self.stage
        if self.learner.asked:
            self.asks.restore(self.learner.asked)
        how = s.sampling.model_copy(update={"seed": (s.seed << 40) + number * SEEDS})
        if self.server and self.served != self.learner.rollout:
            self.loop.run(self.server.load(self.model, self.learner.rollout))
            self.served = self.learner.rollout
        with self.runtime.progress.task("answer", total=s.prompts_per_step * s.group) as tick:
            groups, facts = self.loop.run(
                collect(
                    self.asks.take,
                    self.draw(
                        self.server.sample
                        if self.server
                        else lambda *a: self.local(*a, on_step=lambda done, n: tick(done, tokens=n))
                    ),
                    self.judges,
                    prompts=s.prompts_per_step,
                    n=s.group,
                    how=how,
                    shaping=s.shaping,
                    resample=s.algorithm.resample,
                    seen=self.asks.seen,
                    text_of=lambda ids: str(self.chat.parse(ids)[0].content),
                )
            )
        facts |= self.asks.facts()
        self.learner.asked = self.asks.state()
        return groups, facts

    async def local(self, prompts: Sequence[Sequence[int]], n: int, how: Sampling, **more: Any) -> list[list[Sample]]:
        """Answers drawn with the weights in training; several processes draw a share each."""

        def sampler(model: Any) -> Any:
            from posttrain.sampler.local import Local

            return self.sampler if model is self.model else Local(model, self.chat, batch=64)

        return await drawn(self.model, sampler, prompts, n, how, **more)

    def draw(self, sample: Any) -> Draw:
        """Answers to prompts, or conversations about them."""
        return self.world.draw(sample) if self.world else alone(sample)

    def evaluate(self) -> dict[str, float]:
        """Rewards, and what the gold judge says, on held-out prompts: means with their standard errors."""
        s = self.stage
        how = s.sampling.model_copy(update={"seed": (s.seed << 40) + (1 << 39)})
        judges = self.judges | self.gold
        groups = self.loop.run(
            answered(self.held[:WATCHED], self.draw(self.local), judges, n=1, how=how, shaping=s.shaping)
        )
        gold = [g.scores["gold"][0] * self.gold["gold"].weight for g in groups] if self.gold else []
        reward = [sum(w.weight * g.scores[k][0] for k, w in self.judges.items()) for g in groups]
        found = {"reward": statistics.fmean(reward), "reward_error": error(reward)}
        if gold:
            found |= {"gold": statistics.fmean(gold), "gold_error": error(gold)}
        found |= {
            "length": statistics.fmean(sum(spoken(g.samples[0])) for g in groups),
            "stopped": statistics.fmean(g.samples[0].ended == "stop" for g in groups),
        }
        found |= self.learner.distance(groups)
        self.learner.history.append({f"held_{k}": v for k, v in found.items()})
        return found | {"regret": -found.get("gold", found["reward"])}

    def watch(self, learner: "Learner", entry: dict[str, Any]) -> None:
        """Ask the detectors after each rollout, and do what `health` says."""
        for name, action, sentence in self.stage.health.examine(learner.history):
            entry.setdefault("fired", []).append(name)
            if name not in learner.warned:
                self.runtime.progress.say(f"  warning: {name}: {sentence}")
                learner.warned[name] = sentence
                entry.setdefault("alarms", {})[name] = sentence + DONE.get(action, "")
            if action == "raise_kl" and learner.may(action):
                learner.coef *= RAISE
            if action == "lower_lr" and learner.may(action):
                learner.rate *= LOWER
            if action == "stop":
                self.runtime.progress.say(f"  stopped by {name}; back to the best checkpoint")
                learner.stop = True


def server(s: Serving, chat: "Chat") -> "Server":
    """The servers that draw answers. Raises UserError for a missing key."""
    from posttrain.judge.asking import key_of
    from posttrain.sampler.http import Client
    from posttrain.sampler.server import Server

    urls = (s.url,) if isinstance(s.url, str) else s.url
    client = Client(urls, key=key_of(s.key_env), concurrent=s.concurrent, timeout=s.timeout, tries=s.tries)
    return Server(client, s.model, chat, processed=s.processed, folder=Path(s.folder), reload=(s.reload, s.body))


def context(chat: "Chat") -> int:
    """Tokens that the tokenizer says its model holds; without a word from it, no bound."""
    return min(int(getattr(chat.tokenizer, "model_max_length", 0) or 2**31), 2**31)


def error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def summary(cursor: "Cursor") -> Metrics:
    """Held-out rewards before and of the weights that were kept; means over the first and the last tenth of the
    rollouts."""
    ends = cursor.ends("held_reward")
    facts: Metrics = {}
    for key in ("held_reward", "held_gold", "held_length"):
        if ends and key in ends[0]:
            facts |= {f"{key}_before": ends[0][key], key: ends[1][key]}
    rollouts = [e for e in cursor.log if "rollout" in e]
    tenth = max(1, len(rollouts) // 10)
    for key in ("reward", "length", "entropy", "kl_answer", "explained"):
        found = [e[key] for e in rollouts if key in e]
        if found:
            facts |= {f"{key}_first": statistics.fmean(found[:tenth]), f"{key}_last": statistics.fmean(found[-tenth:])}
    shared = [e["shared_saving"] for e in rollouts if "shared_saving" in e]
    return facts | ({"shared_saving": statistics.fmean(shared)} if shared else {})
