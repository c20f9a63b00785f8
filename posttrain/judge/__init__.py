"""Scores for text: rules (verifiers, here without torch), later language-model judges and reward models."""
