"""Settings: what a run is, as frozen data.  Nothing here imports torch."""

from trm_lab.config.gradient import Gradient, LastCycles, LastUpdates, WholeProgram
from trm_lab.config.halting import Confidence, Fixed, Halting, QLearning
from trm_lab.config.layout import Layout, ManyLatents, OneLatent, TwoLatents, Update
from trm_lab.config.model import (
    Attention,
    LearnedPositions,
    Mixer,
    Model,
    NoPositions,
    Positions,
    PuzzleSlots,
    Rope,
    TokenMLP,
)
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
    "PRESETS", "Adam", "AdamATan2", "AdamATan2Scaled", "AdamW", "Attention", "BundledSudoku",
    "Confidence", "ConstantSchedule", "CosineSchedule", "Eval", "Fixed", "GeneratedSudoku",
    "Gradient", "Halting", "LastCycles", "LastUpdates", "Layout", "LearnedPositions", "Loss",
    "ManyLatents", "Mixer", "Model", "MultiSudoku", "Muon", "NoPositions", "OneLatent", "Optimizer",
    "Positions", "PuzzleSlots", "QLearning", "Recipe", "Rope", "Schedule", "SignSGD", "Softmax",
    "Stablemax", "SudokuCSV", "Supervision", "Task", "TokenMLP", "Train", "TwoLatents",
    "Update", "WholeProgram", "load_recipe", "preset", "recipe_from",
]  # fmt: skip
