"""Evaluation: sample once, score many. task.py loads suites, runner.py asks and counts, suites/ scores one answer."""
