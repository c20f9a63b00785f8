"""Grade-school word problems, scored like sums: the reply's last number counts. Item: {"answer": "12"}."""

from posttrain.evals.suites.arithmetic import GENERATES, METRICS, problem, score

__all__ = ["GENERATES", "METRICS", "problem", "score"]
