"""One module per suite: METRICS (name -> higher is better), GENERATES, `problem(item)` and `score(item, done)`.

A metric's full name is <suite>.<name>. `problem` says in one sentence what is wrong with an item's shape, or "";
that messages of suites that generate end before the assistant speaks is seen to by task.py. A suite whose scores need
all answers at once has `score_all(items, done)` instead of `score`. It may have `derived(scored)`, for numbers over all
items that are no mean, and `tables(items, scores)`, for breakdowns; both go to summary.json. `CONFIDENT` asks for the
log-probabilities of sampled answers.
"""
