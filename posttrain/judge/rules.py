"""All rules in one place: verifiable constraints, refusals, numbers, short answers, repetition. No model, no torch.

Left out on purpose: everything; the rules stand in constraints.py, refusal.py, answers.py and language.py.
"""

from posttrain.judge.answers import (
    abstains,
    distinct,
    equals,
    last_number,
    mentions,
    normalise,
    numbers,
    repetition,
    solves,
    sums,
)
from posttrain.judge.constraints import KINDS, check, loose, mistakes, sentences_of, words_of
from posttrain.judge.language import language_of
from posttrain.judge.refusal import SENSITIVITY, SPECIFICITY, is_refusal, looks_harmful

__all__ = [
    "KINDS", "SENSITIVITY", "SPECIFICITY", "abstains", "check", "distinct", "equals", "is_refusal", "language_of",
    "last_number", "looks_harmful", "loose", "mentions", "mistakes", "normalise", "numbers", "repetition",
    "sentences_of", "solves", "sums", "words_of",
]  # fmt: skip
