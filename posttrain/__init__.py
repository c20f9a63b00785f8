"""posttrain: from a base language model to a released assistant, one recipe, one traceable run.

This file exports nothing heavy: `import posttrain` must not import torch. Start reading at ARCHITECTURE.md.
"""

__version__ = "0.1.0"
