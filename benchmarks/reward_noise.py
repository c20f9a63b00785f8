"""What flipped labels cost a reward model, and how much of it smoothing, soft labels and the robust loss win back.

    python benchmarks/reward_noise.py PAIRS [FLIPPED] [--flips 0.2] [--folds 2] [--max-tokens 384] ...

FLIPPED holds the same pairs with a share of them flipped; without it that share is flipped here, by hash. The pairs are
cut into folds by the hash of their texts; each fold is scored, with its clean labels, by models that were trained on
the other folds, so every pair is held out once. One arm trains on clean labels, the others on the flipped ones: plain
Bradley-Terry, label smoothing, soft labels (each pair right with probability 1 - flips) and the robust loss.
Printed: accuracy with interval, log loss and Brier score on clean labels, and the differences from the plain loss on
flipped labels, paired pair by pair. "longer is better" stands beside them.
Left out on purpose: several seeds (more folds do the same), other model sizes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posttrain import calibration, formats, stats
from posttrain.comparisons import from_pair
from posttrain.locate import find
from posttrain.packing import size
from posttrain.pipeline import Inputs, Runtime
from posttrain.progress import Progress
from posttrain.render import load_chat
from posttrain.reward_model import answers_doc, load_reward, score_docs
from posttrain.rows import Pair, digest, write_jsonl
from posttrain.stages.reward import Reward


def arms(flips: float) -> dict[str, tuple[str, dict[str, Any], float | None]]:
    """Arm -> (which labels, loss, soft label)."""
    plain = {"type": "bradley_terry"}
    return {
        "clean labels, plain": ("clean", plain, None),
        "flipped, plain": ("flipped", plain, None),
        "flipped, smoothing": ("flipped", plain | {"label_smoothing": flips}, None),
        "flipped, soft labels": ("flipped", plain, 1 - flips),
        "flipped, robust": ("flipped", {"type": "robust", "label_smoothing": flips}, None),
    }


def turned(pair: Pair) -> Pair:
    return pair.model_copy(update={"chosen": pair.rejected, "rejected": pair.chosen})


def matched(clean: str, flipped: str, flips: float, model: Path, max_tokens: int) -> list[tuple[Pair, Pair]]:
    """(clean pair, the same pair in the other file) of all pairs that fit."""
    chat = load_chat(model)
    sides = [{key(p): p for p in formats.load(f, "pairs", bad_rows="skip").rows} for f in (clean, flipped or clean)]
    if not flipped:
        sides[1] = {k: turned(p) if int(digest(k), 16) % 1000 < 1000 * flips else p for k, p in sides[0].items()}
    shared = [(sides[0][k], sides[1][k]) for k in sides[0] if k in sides[1]]
    return [two for two in shared if size(answers_doc(chat, two[0].prompt, from_pair(two[0]).answers)) <= max_tokens]


def key(pair: Pair) -> str:
    """The same whichever answer is called chosen."""
    texts = sorted((pair.chosen.content, pair.rejected.content))
    return digest([[m.content for m in pair.prompt], texts])


def margins(
    train: list[Pair], held: list[Pair], loss: Mapping[str, Any], model: Path, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Id of a held-out pair -> the trained model's score difference, and both lengths."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "rows" / "train.jsonl", train)
        stage = Reward(
            policy="policy", pairs="rows", loss=dict(loss), lr=options.lr, epochs=options.epochs, seed=options.seed,
            batch_tokens=2048, micro_tokens=2048, max_tokens=options.max_tokens,
        )  # fmt: skip
        (folder / "out").mkdir()
        runtime = Runtime(precision=options.precision, progress=Progress("silent"))
        stage.run(Inputs({"policy": (model,), "pairs": (folder / "rows",)}), folder / "out", runtime)
        trained, chat = load_reward(folder / "out", runtime), load_chat(folder / "out")
        docs = [answers_doc(chat, p.prompt, (p.chosen, p.rejected)) for p in held]
        scores = score_docs(trained, docs, micro_tokens=2048, pad_id=chat.pad_id)
    return {
        p.id: {
            "margin": float(s[0] - s[1]), "better_chars": len(p.chosen.content), "worse_chars": len(p.rejected.content)
        }
        for p, s in zip(held, scores)
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean", metavar="PAIRS")
    parser.add_argument("flipped", metavar="FLIPPED", nargs="?", default="")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--flips", type=float, default=0.2, help="share of flipped labels")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=384, help="longer pairs are left out")
    parser.add_argument("--limit", type=int, default=0, help="pairs used at most, 0 for all")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="*", default=None, help="some arms only, by a part of their name")
    parser.add_argument("--out", type=Path, help="write all differences here, as JSON")
    options = parser.parse_args()
    model = find(options.model)
    pairs = sorted(
        matched(options.clean, options.flipped, options.flips, model, options.max_tokens),
        key=lambda x: digest(key(x[0])),
    )
    pairs = [(c.model_copy(update={"id": key(c)}), f.model_copy(update={"id": key(f)})) for c, f in pairs]
    pairs = pairs[: options.limit or None]
    wrong = sum(c.chosen != f.chosen for c, f in pairs)
    print(f"{len(pairs)} pairs of at most {options.max_tokens} tokens, {wrong} of them flipped, {options.folds} folds")
    wanted = {n: a for n, a in arms(options.flips).items() if not options.arms or any(x in n for x in options.arms)}
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in wanted}
    for fold in range(options.folds):
        held = [c for n, (c, _) in enumerate(pairs) if n % options.folds == fold]
        for name, (labels, loss, soft) in wanted.items():
            start = time.perf_counter()
            train = [two[labels == "flipped"] for n, two in enumerate(pairs) if n % options.folds != fold]
            train = [p.model_copy(update={"soft": soft}) for p in train]
            found[name] |= margins(train, held, loss, model, options)
            print(f"  fold {fold + 1}, {name}: {time.perf_counter() - start:.0f} s", flush=True)
            if options.out:
                options.out.write_text(json.dumps(found))
    table(found)


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """One line an arm, differences from plain training on flipped labels with 95% intervals."""
    names = sorted(next(iter(found.values())))
    longer = np.mean(
        [0.5 + 0.5 * np.sign(x["better_chars"] - x["worse_chars"]) for x in next(iter(found.values())).values()]
    )
    print(f"longer is better: {longer:.3f} of {len(names)}")
    margin = {arm: np.array([lines[n]["margin"] for n in names]) for arm, lines in found.items()}
    base = margin.get("flipped, plain")
    for arm, m in margin.items():
        right = 0.5 + 0.5 * np.sign(m)
        a, loss = calibration.share(right, names), np.logaddexp(0, -m)
        told = f"{arm:22} accuracy {a['value']:.3f} ({a['low']:.3f}-{a['high']:.3f})  log loss {loss.mean():.4f}"
        told += f"  Brier {((1 - stats.sigmoid(m)) ** 2).mean():.4f}"
        told += f"  ECE {calibration.expected_calibration_error(m):.3f}"
        if base is not None and arm != "flipped, plain":
            plain = np.logaddexp(0, -base)
            low, high = stats.percentiles(stats.bootstrap(loss - plain, names))
            gained = right - (0.5 + 0.5 * np.sign(base))
            told += (
                f"  log loss {(loss - plain).mean():+.4f} ({low:+.4f} to {high:+.4f}), accuracy {gained.mean():+.3f}"
            )
        print(told)


if __name__ == "__main__":
    main()
