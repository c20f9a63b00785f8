"""What a snapshot is worth, in numbers: agreement with intervals, reliability, biases, coverage, time.

The result is a plain dict for report.json; a value that cannot be told is None. Intervals are 95% bootstraps over
items, since votes on one item hang together. Left out on purpose: plots, and any opinion on how good is good enough.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from math import isfinite
from statistics import fmean, median
from typing import Any

import numpy as np

from posttrain import agreement
from posttrain.agreement import Bias, Labels, Level, Share
from posttrain.feedback.said import by_item, comparisons, gold_marks, plain_labels, preferences
from posttrain.stats import Interval
from posttrain.store.rows import TaskItem, Vote

COMMON = 10  # comparisons that two people must share before their kappa is worth printing
PEOPLE = 30  # most people whose pairs are held against each other; beyond it the table says less than Fleiss does
SCALES: dict[str, Level] = {"preference": "nominal", "rating": "interval", "thumb": "nominal", "safety": "ordinal"}
SAFETY = ("safe", "borderline", "unsafe")


def snapshot_report(items: Sequence[TaskItem], votes: Sequence[Vote], *, draws: int = 1000) -> dict[str, Any]:
    """Everything below, by name. Gold items measure people and are left out of agreement, biases and coverage."""
    gold = {i.id for i in items if i.gold}
    open_items = [i for i in items if i.id not in gold]
    own = [v for v in votes if v.item not in gold and not v.gold]
    told = _told(open_items, own)
    return {
        "votes": len(votes), "gold_votes": len(votes) - len(own), "people": len({v.person for v in votes}),
        "coverage": coverage(open_items, own),
        "agreement": {sort: agreement_of(found, SCALES[sort], draws) for sort, found in told.items()},
        "strength_agreement": strength_agreement(own, draws),
        "cohen": cohens(own, told),
        "choices": dict(Counter(str(v.choice) for v in own if v.choice)),
        "safety": dict(Counter(b for v in own for b in v.safety or ())),
        "flags": dict(Counter(f for v in own for f in v.flags)),
        "position_bias": _bias(position_bias(own)), "length_bias": _bias(length_bias(open_items, own)),
        "seconds": seconds(own), "by_person": by_person(items, votes, own, told),
    }  # fmt: skip


def _told(items: Sequence[TaskItem], votes: Sequence[Vote]) -> dict[str, Labels]:
    """Labels by what they are about; only those that occur. Safety bins are numbered so that they have an order."""
    found = {"preference": preferences(items, votes)} | {f: plain_labels(votes, f) for f in ("rating", "thumb")}
    found["safety"] = [(i, p, SAFETY.index(str(x))) for i, p, x in plain_labels(votes, "safety")]
    return {sort: labels for sort, labels in found.items() if labels}


def agreement_of(labels: Labels, level: Level, draws: int) -> dict[str, Any]:
    """raw: chance that two votes on one item say the same; Fleiss' kappa; Krippendorff's alpha at the labels' level."""
    votes_of = Counter(unit for unit, _, _ in labels)
    return {
        "level": level, "items": len({agreement.item_of(unit) for unit in votes_of}),
        "with_two_votes": len({agreement.item_of(unit) for unit, n in votes_of.items() if n > 1}),
    } | {name: _interval(x) for name, x in agreement.with_intervals(labels, level, draws).items()}  # fmt: skip


def signed_strengths(votes: Sequence[Vote]) -> list[tuple[str, str, int]]:
    """Second by 4 to first by 4, a tie in the middle; [] where nobody said how strongly."""
    sign = {"first": 1, "second": -1, "tie": 0, "both_bad": 0}
    labels = [
        (v.item, v.person, sign[v.choice] * (v.strength or 0))
        for v in votes
        if v.choice is not None and (v.strength is not None or sign[v.choice] == 0)
    ]
    return labels if any(label for _, _, label in labels) else []


def strength_agreement(votes: Sequence[Vote], draws: int) -> dict[str, Any] | None:
    """Krippendorff's ordinal alpha of signed strengths."""
    labels = signed_strengths(votes)
    return _interval(agreement.with_intervals(labels, "ordinal", draws)["alpha"]) if labels else None


def cohens(votes: Sequence[Vote], told: dict[str, Labels]) -> list[dict[str, Any]]:
    """Cohen's kappa of every two people with enough in common, lowest first; strengths weighted by squared distance."""
    signed = signed_strengths(votes)
    said: dict[str, dict[str, Any]] = defaultdict(dict)
    for item, person, label in signed or told.get("preference") or next(iter(told.values()), []):
        said[person][item] = label
    busiest = sorted(said, key=lambda p: (-len(said[p]), p))[:PEOPLE]
    found = []
    for a, b in combinations(sorted(busiest), 2):
        both = [i for i in said[a] if i in said[b]]
        if len(both) >= COMMON:
            labels = [said[a][i] for i in both], [said[b][i] for i in both]
            kappa = agreement.cohen_kappa(*labels, "quadratic" if signed else None)
            found.append({"people": [a, b], "n": len(both), "kappa": kappa})
    return sorted(found, key=lambda row: row["kappa"])


def coverage(items: Sequence[TaskItem], votes: Sequence[Vote]) -> dict[str, Any]:
    """How many items have how many votes, and the share of each category that has any."""
    votes_of = Counter(v.item for v in votes)
    sizes: Counter[str] = Counter(i.category for i in items)
    seen: Counter[str] = Counter(i.category for i in items if votes_of[i.id])
    return {
        "items": len(items), "with_votes": sum(1 for i in items if votes_of[i.id]),
        "votes_per_item": {str(n): c for n, c in sorted(Counter(votes_of[i.id] for i in items).items())},
        "by_category": {c or "(none)": [seen[c], n] for c, n in sizes.most_common()},
        "models": dict(Counter(a.model for i in items if votes_of[i.id] for a in i.answers if a.model)),
    }  # fmt: skip


def position_bias(votes: Sequence[Vote]) -> Bias:
    """Of decided pairs whose order on the screen is known: how often the first one shown won."""
    shown = [(v.presented[0], v.choice) for v in votes if v.choice in ("first", "second") and len(v.presented) == 2]
    return agreement.position_bias(sum((place == 0) == (choice == "first") for place, choice in shown), len(shown))


def length_bias(items: Sequence[TaskItem], votes: Sequence[Vote]) -> Bias:
    """Of decided comparisons: how often the answer of more characters won."""
    chosen, rejected = [], []
    for item, own in by_item(items, votes).values():
        for c in comparisons(item, own):
            sizes = [len(item.answers[n].text) for n in (c.first, c.second)]
            for said in c.said:
                if said.first != 0.5:
                    chosen.append(sizes[0 if said.first else 1])
                    rejected.append(sizes[1 if said.first else 0])
    return agreement.length_bias(chosen, rejected)


def seconds(votes: Sequence[Vote]) -> dict[str, float | None]:
    """Time a vote took: median, and the hasty and the long tenth."""
    told = [v.seconds for v in votes if v.seconds > 0]
    if not told:
        return {"median": None, "p10": None, "p90": None, "hours": None}
    low, high = np.quantile(told, [0.1, 0.9])
    return {"median": median(told), "p10": float(low), "p90": float(high), "hours": sum(told) / 3600}


def by_person(
    items: Sequence[TaskItem], votes: Sequence[Vote], own: Sequence[Vote], told: dict[str, Labels]
) -> list[dict[str, Any]]:
    """One line a person, by pseudonym: votes, agreement with the others, estimated accuracy, gold, habits."""
    labels = next(iter(told.values()), [])
    peers, truth = agreement.leave_one_out(labels), agreement.dawid_skene(labels)
    marks = gold_marks({i.id: i for i in items}, votes)
    found = []
    for person in sorted({v.person for v in votes}):
        mine = [v for v in own if v.person == person]
        decided = [v.choice for v in mine if v.choice]
        found.append({
            "person": person, "votes": len(mine), "peers": _share(peers.get(person)),
            "accuracy": truth.accuracy.get(person),
            "gold": _share(agreement.beta_interval(sum(m), len(m)) if (m := marks.get(person)) else None),
            "ties": fmean(c in ("tie", "both_bad") for c in decided) if decided else None,
            "position_bias": _bias(position_bias(mine)), "seconds": seconds(mine)["median"],
        })  # fmt: skip
    return found


def _number(x: float) -> float | None:
    return float(x) if isfinite(x) else None


def _interval(x: Interval) -> dict[str, float | int | None]:
    return {"value": _number(x.value), "low": _number(x.low), "high": _number(x.high), "n": x.n}


def _share(x: Share | None) -> dict[str, float | int | None] | None:
    return None if x is None or not x.n else {"value": x.share, "low": x.low, "high": x.high, "n": x.n}


def _bias(x: Bias) -> dict[str, float | int | None] | None:
    return {"value": x.share, "low": x.low, "high": x.high, "n": x.n, "p": x.p} if x.n else None
