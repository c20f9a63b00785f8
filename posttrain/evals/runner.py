"""Ask a model every item once, keep what it did, and count: items.jsonl, samples.jsonl, summary.json.

Sampling and counting are apart: `ask` needs a model, `count` needs only what `ask` kept, so new metrics are computed
on old samples (`rescore`). Every metric has its n and a 95% interval over clusters.
Left out on purpose: models and tokenizers; `answer` and `likelihood` are callables that the stage wires up.
"""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from math import exp
from pathlib import Path
from typing import Any

from posttrain import stats
from posttrain.errors import UserError
from posttrain.evals.suites import attacks, refusals
from posttrain.evals.suites.hygiene import is_clean
from posttrain.evals.task import SUITES, Done, Share, Task, load, prompt_hash
from posttrain.files import digest_of_code
from posttrain.gates import Scored
from posttrain.judge import answers, constraints, language, principles, refusal
from posttrain.judge.rules import SENSITIVITY, SPECIFICITY, distinct, words_of
from posttrain.pipeline import write_text
from posttrain.progress import Progress
from posttrain.redteam import verdict
from posttrain.rows import Item, Messages, Sample, read_jsonl, write_jsonl

OnStep = Callable[[int, int], None]  # (answers finished, tokens drawn) since the last call
Answer = Callable[[Sequence[Messages], OnStep], Awaitable[list[Sample]]]
Certain = Callable[[Sequence[tuple[Messages, str]]], list[tuple[float, int]]]  # (nats, tokens) of given answers
Question = tuple[str, Sequence[str]]  # a context and the continuations whose log-likelihood is wanted
Likelihood = Callable[[Sequence[Question], OnStep], list[list[list[float]]]]  # [question][continuation][token], nats

ALL: dict[str, bool | None] = {"stopped": True, "clean": True, "words": None, "distinct": True}
MANY_CLUSTERS = 60  # suites with more clusters have no table by cluster


async def ask(
    tasks: Sequence[Task], answer: Answer, likelihood: Likelihood, progress: Progress, certain: Certain | None = None
) -> list[Done]:
    """What the model does on every item, suite after suite. All answers are sampled in one batch.

    certain: log-probabilities of the answers of suites that want them (`CONFIDENT`).
    """
    asked = [(task, item) for task in tasks for item in task.items if task.scoring.GENERATES]
    scored = [(task, item) for task in tasks for item in task.items if not task.scoring.GENERATES]
    done: dict[tuple[str, str], Done] = {}
    if asked:
        with progress.task("answer", total=len(asked)) as tick:
            samples = await answer([i.messages for _, i in asked], lambda n, tokens: tick(n, tokens=tokens))
        for (task, item), sample in zip(asked, samples, strict=True):
            done[task.name, item.id] = Done(
                id=item.id, suite=task.name, text=sample.text, ended=sample.ended, tokens=len(sample.ids)
            )
        if certain:
            done |= _with_confidence([(t, i) for t, i in asked if hasattr(t.scoring, "CONFIDENT")], done, certain)
    if scored:
        with progress.task("score text", total=len(scored)) as tick:
            questions = [task.scoring.question(item) for task, item in scored]
            logps = likelihood(questions, lambda n, tokens: tick(n, tokens=tokens))
        for (task, item), per_continuation in zip(scored, logps, strict=True):
            sums, counts = tuple(map(sum, per_continuation)), tuple(map(len, per_continuation))
            done[task.name, item.id] = Done(id=item.id, suite=task.name, logps=sums, counts=counts)
    return [done[task.name, item.id] for task in tasks for item in task.items]


def _with_confidence(
    asked: Sequence[tuple[Task, Item]], done: Mapping[tuple[str, str], Done], certain: Certain
) -> dict[tuple[str, str], Done]:
    """Finished answers with the log-probability of their own words."""
    keys = [(t.name, i.id) for t, i in asked]
    whole = [n for n, key in enumerate(keys) if done[key].ended == "stop" and done[key].text.strip()]
    sure = certain([(asked[n][1].messages, done[keys[n]].text) for n in whole]) if whole else []
    return {
        keys[n]: done[keys[n]].model_copy(update={"logps": (nats,), "counts": (tokens,)})
        for n, (nats, tokens) in zip(whole, sure, strict=True)
    }


def score(tasks: Sequence[Task], done: Sequence[Done]) -> list[Scored]:
    """Per-item scores. Items without a kept answer raise UserError."""
    kept = {(d.suite, d.id): d for d in done}
    scored = []
    for task in tasks:
        if missing := [item.id for item in task.items if (task.name, item.id) not in kept]:
            raise UserError(f"no answer was kept for item {task.name}/{missing[0]}", remedy="evaluate again")
        ones = [kept[task.name, item.id] for item in task.items]
        for item, one, scores in zip(task.items, ones, task.scores(ones), strict=True):
            found = {f"{task.name}.{name}": value for name, value in scores.items()}
            if task.scoring.GENERATES:
                found |= {f"all.{name}": value for name, value in _anywhere(one).items()}
            scored.append(_scored(task, item.id, item.cluster, prompt_hash(item), found))
    return scored


def _anywhere(done: Done) -> dict[str, float]:
    """Metrics of any sampled answer."""
    return {
        "stopped": float(done.ended == "stop"),
        "clean": float(is_clean(done.text, done.ended)),
        "words": float(len(words_of(done.text))),
        "distinct": distinct(done.text),
    }


def _scored(task: Task, id: str, cluster: str, prompt: str, found: Mapping[str, float | Share]) -> Scored:
    shares = {name: value for name, value in found.items() if isinstance(value, Share)}
    metrics = {n: v.part / v.of if isinstance(v, Share) else v for n, v in found.items()}
    weights = {name: share.of for name, share in shares.items()}
    return Scored(id=id, suite=task.name, cluster=cluster, prompt=prompt, metrics=metrics, weights=weights)


def summarise(
    tasks: Sequence[Task], scored: Sequence[Scored], facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """summary.json: metrics with n and interval, suites with digest and n, and who judged. facts: extra entries."""
    better = directions(tasks)
    rows: dict[str, list[Scored]] = defaultdict(list)
    for item in scored:
        for name in item.metrics:
            rows[name].append(item)
    metrics = {name: _metric(name, rows[name], better[name]) for name in better if name in rows}
    for task in tasks:
        metrics |= dict(_derived(task, metrics, rows))
    return {
        "metrics": metrics,
        "suites": {task.name: _suite(task, rows) for task in tasks},
        "judge": judge_identity(),
        **(facts or {}),
    }


def metrics_of(name: str) -> Mapping[str, bool | None]:
    """What single items of a suite are scored by: short name -> higher is better. `all`, `pinned`: see task.TAKEN."""
    if name == "all":
        return ALL
    scoring = attacks if name == "pinned" else SUITES.get(name) or load(name).scoring
    found: Mapping[str, bool | None] = scoring.METRICS
    return found


def directions(tasks: Sequence[Task]) -> dict[str, bool | None]:
    """Full metric name -> higher is better (None: neither)."""
    better = {f"{t.name}.{name}": up for t in tasks for name, up in t.scoring.METRICS.items()}
    return better | {f"all.{name}": up for name, up in ALL.items()}


def _metric(name: str, items: Sequence[Scored], better: bool | None) -> dict[str, Any]:
    values, weights = [i.metrics[name] for i in items], [i.weights.get(name, 1.0) for i in items]
    return _shown(stats.interval(values, [(i.suite, i.cluster) for i in items], weights), better)


def _shown(found: stats.Interval, better: bool | None) -> dict[str, Any]:
    return {"value": found.value, "n": found.n, "low": found.low, "high": found.high, "higher_is_better": better}


def _derived(
    task: Task, metrics: Mapping[str, dict[str, Any]], rows: Mapping[str, list[Scored]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is no mean over items: a suite's own `derived`; perplexity; rates corrected for the detector's errors."""
    own = [item for name in task.scoring.METRICS for item in rows.get(f"{task.name}.{name}", ())]
    if own and hasattr(task.scoring, "derived"):
        once = list({item.id: item for item in own}.values())
        for short, (found, better) in task.scoring.derived(once).items():
            yield f"{task.name}.{short}", _shown(found, better)
    nll = metrics.get(f"{task.name}.nll")
    if nll:
        yield f"{task.name}.perplexity", nll | {key: exp(nll[key]) for key in ("value", "low", "high")}
    if task.scoring is not refusals:
        return
    for short in refusals.CORRECTED:
        name = f"{task.name}.{short}"
        if name in metrics:
            worth = stats.effective_n([i.metrics[name] for i in rows[name]], [i.cluster for i in rows[name]])
            found = stats.corrected_rate(metrics[name]["value"], worth, SENSITIVITY, SPECIFICITY)
            shown = _shown(found, metrics[name]["higher_is_better"])
            yield f"{name}_corrected", shown | {"n": metrics[name]["n"]}


def _suite(task: Task, rows: Mapping[str, list[Scored]]) -> dict[str, Any]:
    """Digest, n, and each metric's mean by cluster where there are not too many clusters."""
    found: dict[str, Any] = {"digest": task.digest, "n": len(task.items)}
    if hasattr(task.scoring, "tables"):
        found |= task.scoring.tables(task.items, _by_item(task, rows))
    if len({item.cluster for item in task.items}) <= MANY_CLUSTERS:
        found["clusters"] = {
            name: _by_cluster(name, rows[f"{task.name}.{name}"])
            for name in task.scoring.METRICS
            if rows.get(f"{task.name}.{name}")
        }
    return found


def _by_item(task: Task, rows: Mapping[str, list[Scored]]) -> list[dict[str, float]]:
    """The suite's own metrics of each item by short name, in the items' order."""
    found: dict[str, dict[str, float]] = {item.id: {} for item in task.items}
    for name in task.scoring.METRICS:
        for scored in rows.get(f"{task.name}.{name}", ()):
            found[scored.id][name] = scored.metrics[f"{task.name}.{name}"]
    return [found[item.id] for item in task.items]


def _by_cluster(name: str, items: Sequence[Scored]) -> dict[str, list[float]]:
    """cluster -> [mean, n]."""
    values: dict[str, list[float]] = defaultdict(list)
    for item in items:
        values[item.cluster].append(item.metrics[f"{item.suite}.{name}"])
    return {cluster: [sum(v) / len(v), len(v)] for cluster, v in values.items()}


def judge_identity() -> str:
    """Names the rules that scored, by the content of their source: other rules, other name."""
    scorers = (answers, constraints, language, principles, refusal, verdict, *SUITES.values())
    return f"rules-{digest_of_code(*scorers)}"


def write(
    out: Path, tasks: Sequence[Task], done: Sequence[Done], facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The whole report artefact. Returns the summary."""
    scored = score(tasks, done)
    summary = summarise(tasks, scored, facts)
    write_jsonl(out / "samples.jsonl", done)
    write_jsonl(out / "items.jsonl", scored)
    write_text(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def rescore(report: Path, out: Path, tasks: Sequence[Task]) -> dict[str, Any]:
    """Score a report's kept samples again, with today's rules, into `out`. The suites must hold the same items."""
    old = json.loads((report / "summary.json").read_text())
    done = list(read_jsonl(report / "samples.jsonl", Done))
    facts = {key: value for key, value in old.items() if key not in ("metrics", "suites", "judge")}
    return write(out, tasks, done, facts)
