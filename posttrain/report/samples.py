"""Answers of several models to the same questions, chosen without anybody's taste: by hash, suites taking turns.

Left out on purpose: items without a sampled answer (log-likelihood suites).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from posttrain.errors import UserError
from posttrain.evals import task
from posttrain.gates import Scored
from posttrain.report import words
from posttrain.report.collect import Report
from posttrain.rows import Item, Messages, digest

SHOWN = 12


@dataclass(frozen=True)
class Answer:
    """mark: what the suite's scorer said of it, tone: good or bad, '' when it says neither."""

    label: str
    series: int
    text: str
    ended: str
    mark: str
    tone: str


@dataclass(frozen=True)
class Sample:
    suite: str
    id: str
    messages: Messages
    answers: Sequence[Answer]


def choose(reports: Sequence[Report], series: Mapping[str, int], n: int = SHOWN) -> list[Sample]:
    """Up to n questions that every report has an answer to. The same run gives the same questions, always."""
    if not reports:
        return []
    shared = [k for k, s in reports[0].samples.items() if s.get("ended") and all(k in r.samples for r in reports)]
    by_suite: dict[str, list[str]] = {}
    for key in sorted(shared, key=lambda k: digest(["shown", k])):
        by_suite.setdefault(key.partition("/")[0], []).append(key)
    turns = [k for turn in zip_longest(*(by_suite[s] for s in sorted(by_suite))) for k in turn if k]
    questions = _questions(reports)
    scored = [{i.name: i for i in r.paired.items} for r in reports]
    rarity = [Counter(m for i in r.paired.items for m in i.metrics) for r in reports]
    found: list[Sample] = []
    for key in turns:
        if key in questions and len(found) < n:
            answers = [
                _answer(r, series.get(r.policy, len(series)), key, items.get(key), rare)
                for r, items, rare in zip(reports, scored, rarity)
            ]
            suite, _, id = key.partition("/")
            found.append(Sample(suite.replace("_", " "), id, questions[key].messages, answers))
    return found


def _questions(reports: Sequence[Report]) -> dict[str, Item]:
    """'suite/id' -> item, for items that still read as they did when the reports were made."""
    asked = {i.name: i.prompt for i in reports[0].paired.items}
    names = dict.fromkeys(name for r in reports for name in r.node.record.knobs.get("suites", ()))
    return {
        key: item for key, item in _items(names) if asked.get(key, task.prompt_hash(item)) == task.prompt_hash(item)
    }


def _items(names: Sequence[str] | Mapping[str, None]) -> Iterator[tuple[str, Item]]:
    for name in names:
        try:
            loaded = task.load(str(name))
        except (UserError, OSError):
            continue  # the suite's file has gone: its answers are still in the artefact, only not on the page
        for item in loaded.items:
            yield f"{loaded.name}/{item.id}", item


def _answer(report: Report, series: int, key: str, item: Scored | None, rarity: Mapping[str, int]) -> Answer:
    line = report.samples[key]
    mark, tone = _mark(report, item, rarity) if item else ("", "")
    return Answer(report.label, series, str(line.get("text", "")), str(line.get("ended", "")), mark, tone)


def _mark(report: Report, item: Scored, rarity: Mapping[str, int]) -> tuple[str, str]:
    """The most particular 0/1 metric of the item's own suite: recall rather than stopped."""
    own = [m for m, v in item.metrics.items() if m.startswith(item.suite + ".") and v in (0.0, 1.0)]
    own = [m for m in own if report.higher_is_better(m) is not None]
    if not own:
        return "", ""
    metric = min(own, key=lambda m: rarity[m])
    right = (item.metrics[metric] == 1.0) == report.higher_is_better(metric)
    return f"{'✓' if right else '✗'} {words.label(metric)}", "good" if right else "bad"


def examples(reports: Sequence[Report], n: int = 3) -> list[str]:
    """Lines for a terminal: n questions with the first and the last model's answers."""
    if len(reports) < 2:
        return []
    ends = (reports[0], reports[-1])
    width = max(len(r.label) for r in ends)
    lines = []
    for sample in choose(ends, {}, n):
        lines.append(f"Q {words.one_line(sample.messages[-1].content, 160)}")
        lines += [f"  {a.label:<{width}}  {words.one_line(a.text, 200) or '(empty answer)'}" for a in sample.answers]
        lines.append("")
    return lines
