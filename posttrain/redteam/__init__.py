"""Attacks on a model's refusals: transformations of a request, a search for what works, and when an attack worked."""
