"""One file is one box of the pipeline. STAGES lists every type a recipe may name, in the order of a usual run."""

from posttrain.pipeline import Stage
from posttrain.stages.base import Base
from posttrain.stages.constitution import ConstitutionDemos, ConstitutionPairs
from posttrain.stages.data import Demos, PairsFile, Prompts, RankingsFile, RatingsFile, ThumbsFile
from posttrain.stages.evaluate import Evaluate
from posttrain.stages.feedback import Feedback
from posttrain.stages.gate import Gate
from posttrain.stages.judge import JudgeCard, JudgePairs
from posttrain.stages.online import OnlinePreference
from posttrain.stages.preference import Preference
from posttrain.stages.red_team import RedTeam, RedTeamPairs
from posttrain.stages.release import Release
from posttrain.stages.reward import Reward
from posttrain.stages.rl import Rl
from posttrain.stages.sample import SampleDemos, SamplePairs
from posttrain.stages.sft import Sft
from posttrain.stages.side import SideBySide

STAGES: tuple[type[Stage], ...] = (
    Base, Demos, PairsFile, RankingsFile, RatingsFile, ThumbsFile, Prompts, Feedback, Sft, SampleDemos, SamplePairs,
    ConstitutionDemos, ConstitutionPairs, RedTeam, RedTeamPairs,
    JudgeCard, JudgePairs, Reward, Preference, OnlinePreference,
    Rl, Evaluate, SideBySide, Gate, Release,
)  # fmt: skip
