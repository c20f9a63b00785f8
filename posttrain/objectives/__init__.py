"""Objectives: pure functions from log-probabilities to losses. Floor 1: torch tensors in and out, no models."""
