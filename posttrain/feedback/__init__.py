"""From votes to training rows: settle disagreement, filter, hold out, and say of every vote what became of it.

    made = to_rows("pairs", items, votes, filters=Filters(min_agreement=0.6), project="helpfulness", snapshot=digest)
    made.train, made.holdout, made.ledger

comparisons.py turns votes into labels, make.py labels into rows, report.py measures a snapshot, croissant.py describes
an export, frozen.py keeps a snapshot in a folder that stands alone. Runs without torch and without a database.
Left out on purpose: collecting votes (store/), the statistics themselves (agreement.py), training (stages/).
"""

from posttrain.feedback.croissant import croissant
from posttrain.feedback.frozen import Frozen
from posttrain.feedback.make import ROWS, Dropped, Filters, Made, RowsKind, rows_kind, to_rows
from posttrain.feedback.report import snapshot_report

__all__ = [
    "ROWS", "Dropped", "Filters", "Frozen", "Made", "RowsKind", "croissant", "rows_kind", "snapshot_report", "to_rows",
]  # fmt: skip
