"""Text out of weights. Sampling and Sampler say what is asked and promised; Scripted is the public fake.

`Local` needs torch and is imported from posttrain.sampler.local where it is used.
"""

from posttrain.sampler.base import Sampler, Sampling
from posttrain.sampler.scripted import Scripted

__all__ = ["Sampler", "Sampling", "Scripted"]
