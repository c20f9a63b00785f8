"""One module per suite: METRICS (name -> higher is better), GENERATES, `problem(item)` and `score(item, done)`.

A metric's full name is <suite>.<name>. `problem` says in one sentence what is wrong with an item's shape, or "".
"""
