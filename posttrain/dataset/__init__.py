"""Pure functions over rows before training: near-duplicates, leaks from evaluation, the split, the audit. No torch."""
