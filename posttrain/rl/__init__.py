"""Reinforcement learning: algorithms as rows of a table, rollouts and their judges, credit applied, health.

Importing it imports nothing: recipes are validated without torch. Left out on purpose: loss functions and advantages
(objectives/), the loop (train.py), the stage (stages/rl.py).
"""
