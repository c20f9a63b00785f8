"""One file is one box of the pipeline. STAGES lists every type a recipe may name, in the order of a usual run."""

from posttrain.pipeline import Stage
from posttrain.stages.base import Base
from posttrain.stages.data import Demos, PairsFile, Prompts
from posttrain.stages.evaluate import Evaluate
from posttrain.stages.gate import Gate
from posttrain.stages.preference import Preference
from posttrain.stages.release import Release
from posttrain.stages.sample import SamplePairs
from posttrain.stages.sft import Sft

STAGES: tuple[type[Stage], ...] = (
    Base, Demos, PairsFile, Prompts, Sft, SamplePairs, Preference, Evaluate, Gate, Release,
)  # fmt: skip
