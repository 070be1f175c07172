"""Settings: what a run is, as frozen data.  Nothing here imports torch."""

from trm_lab.config.blocks import (
    Attention,
    Convolution,
    ConvSwiGLU,
    FeedForward,
    LearnedPositions,
    Mixer,
    MixtureOfExperts,
    NoPositions,
    NormGateSwiGLU,
    Positions,
    Rope,
    Rope2D,
    SwiGLU,
    TokenMLP,
)
from trm_lab.config.gradient import (
    Gradient,
    Implicit,
    LastCycles,
    LastUpdates,
    Phantom,
    RandomTruncation,
    Truncation,
    WholeProgram,
)
from trm_lab.config.halting import (
    AllSteps,
    AsTrained,
    Confidence,
    Fixed,
    Halting,
    Oracle,
    Policy,
    QLearning,
    Residual,
    Rule,
    WhenHalted,
)
from trm_lab.config.initial import FixedStart, Initial, LearnedStart, RandomStart, ZeroStart
from trm_lab.config.layout import Layout, Looped, ManyLatents, OneLatent, TwoLatents, Update
from trm_lab.config.loops import (
    Depth,
    FixedDepth,
    FullLoop,
    Geometric,
    LastOnly,
    Loop,
    NoCarry,
    SampledDepth,
    SlotCarry,
    Stage,
    StepWeights,
    Uniform,
)
from trm_lab.config.model import Model, PuzzleSlots
from trm_lab.config.presets import PRESETS, load_recipe, preset, recipe_from
from trm_lab.config.recipe import Recipe
from trm_lab.config.supervision import Loss, Softmax, Stablemax, Supervision
from trm_lab.config.task import BundledSudoku, GeneratedSudoku, MultiSudoku, SudokuCSV, Task
from trm_lab.config.training import (
    Adam,
    AdamATan2,
    AdamATan2Scaled,
    AdamW,
    ConstantSchedule,
    CosineSchedule,
    Eval,
    Muon,
    Optimizer,
    Schedule,
    SignSGD,
    Train,
)

__all__ = [
    "PRESETS", "Adam", "AdamATan2", "AdamATan2Scaled", "AdamW", "AllSteps", "AsTrained",
    "Attention", "BundledSudoku", "Confidence", "ConstantSchedule", "ConvSwiGLU", "Convolution",
    "CosineSchedule", "Depth", "Eval", "FeedForward", "Fixed", "FixedDepth", "FixedStart",
    "FullLoop", "GeneratedSudoku", "Geometric", "Gradient", "Halting", "Implicit", "Initial",
    "LastCycles", "LastOnly", "LastUpdates", "Layout", "LearnedPositions", "LearnedStart", "Loop",
    "Looped", "Loss", "ManyLatents", "Mixer", "MixtureOfExperts", "Model", "MultiSudoku", "Muon",
    "NoCarry", "NoPositions", "NormGateSwiGLU", "OneLatent", "Optimizer", "Oracle", "Phantom",
    "Policy", "Positions", "PuzzleSlots", "QLearning", "RandomStart", "RandomTruncation", "Recipe",
    "Residual", "Rope", "Rope2D", "Rule", "SampledDepth", "Schedule", "SignSGD", "SlotCarry",
    "Softmax", "Stablemax", "Stage", "StepWeights", "SudokuCSV", "Supervision", "SwiGLU", "Task",
    "TokenMLP", "Train", "Truncation", "TwoLatents", "Uniform", "Update", "WhenHalted",
    "WholeProgram", "ZeroStart", "load_recipe", "preset", "recipe_from",
]  # fmt: skip
