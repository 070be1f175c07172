"""Instances of every member of every strategy union: what the contract tests run over.

`tests/test_architecture.py` walks the unions of a recipe and fails when a member is not here.
"""

from typing import Any

from trm_lab.config import (
    Adam,
    AdamATan2,
    AdamATan2Scaled,
    AdamW,
    AllSteps,
    AsTrained,
    Attention,
    BundledSudoku,
    Confidence,
    ConstantSchedule,
    Convolution,
    ConvSwiGLU,
    CosineSchedule,
    Depth,
    FeedForward,
    Fixed,
    FixedDepth,
    FixedStart,
    FullLoop,
    GeneratedSudoku,
    Geometric,
    Gradient,
    Halting,
    Implicit,
    Initial,
    LastCycles,
    LastOnly,
    LastUpdates,
    Layout,
    LearnedPositions,
    LearnedStart,
    Loop,
    Looped,
    Loss,
    ManyLatents,
    Mixer,
    MixtureOfExperts,
    MultiSudoku,
    Muon,
    NoCarry,
    NoPositions,
    NormGateSwiGLU,
    OneLatent,
    Optimizer,
    Oracle,
    Phantom,
    Policy,
    Positions,
    QLearning,
    RandomStart,
    RandomTruncation,
    Residual,
    Rope,
    Rope2D,
    Rule,
    SampledDepth,
    Schedule,
    SlotCarry,
    Softmax,
    Stablemax,
    StepWeights,
    SudokuCSV,
    SwiGLU,
    Task,
    TokenMLP,
    TwoLatents,
    Uniform,
    WhenHalted,
    WholeProgram,
    ZeroStart,
)

LAYOUTS = (
    TwoLatents(),
    TwoLatents(nets=2),
    TwoLatents(x_in_answer=True),
    OneLatent(),
    OneLatent(x_in_last=True),
    ManyLatents(k=2),
    ManyLatents(),
    ManyLatents(k=3, nets=2),
    ManyLatents(k=2, x_in_answer=True),
    Looped(),
)
TRUNCATIONS = (
    LastUpdates(k=1),
    LastUpdates(),
    LastUpdates(k=5),
    LastCycles(),
    LastCycles(c=2),
    WholeProgram(),
    RandomTruncation(low=2, high=5, ratio=0.5),
    RandomTruncation(high=2, unit="cycle"),
)
"""Gradient schemes on which values never depend."""
GRADIENTS = (
    *TRUNCATIONS,
    Phantom(),
    Phantom(k=2, damping=0.25),
    Implicit(tolerance=1e-6, backward_iterations=4, backward_tolerance=1e-6),
    Implicit(memory=0, damping=0.5, tolerance=0, backward_iterations=3, backward_tolerance=0),
    Implicit(memory=2, tolerance=0, backward_iterations=2, backward_tolerance=0),
    Implicit(backward_iterations=0),
)
MIXERS = (Attention(heads=2), Attention(heads=3, head_dim=2), TokenMLP(), Convolution())
POSITIONS = (
    Rope(),
    Rope(theta=100.0),
    Rope2D(),
    Rope2D(columns=1, theta=50.0),
    LearnedPositions(),
    NoPositions(),
)
FEED_FORWARDS = (
    SwiGLU(),
    ConvSwiGLU(),
    ConvSwiGLU(kernel=3),
    NormGateSwiGLU(),
    MixtureOfExperts(),
    MixtureOfExperts(experts=3, active=1),
)
INITIALS = (FixedStart(), LearnedStart(), ZeroStart(), RandomStart(), RandomStart(std=0.1))
HALTINGS = (
    Fixed(),
    Confidence(),
    Confidence(threshold=1.5),
    QLearning(),
    Residual(threshold=0.4),
)
RULES = (
    AsTrained(),
    Confidence(threshold=-0.5),
    QLearning(),
    Residual(threshold=0.6),
    Oracle(),
)
POLICIES = (AllSteps(), *(WhenHalted(rule=rule) for rule in RULES))
LOOPS = (
    SlotCarry(),
    SlotCarry(steps=2),
    SlotCarry(steps=3, linked=True),
    FullLoop(),
    FullLoop(leave="any"),
    NoCarry(),
)
STEP_WEIGHTS = (Uniform(), Geometric(), Geometric(ratio=0.5), LastOnly())
DEPTHS = (FixedDepth(), SampledDepth(high=3), SampledDepth(low=2, high=4, per="puzzle"))
LOSSES = (
    Stablemax(),
    Stablemax(dtype="float32"),
    Softmax(),
    Softmax(dtype="float64"),
)
ADAMS = (
    AdamATan2(lr=0.02, weight_decay=0.5),
    AdamATan2Scaled(lr=0.02, weight_decay=0.5),
    AdamW(lr=0.02, betas=(0.8, 0.9), weight_decay=0.5),
)
OPTIMIZERS = (
    *ADAMS,
    Muon(),
    Muon(lr=0.05, nesterov=False, adjust="match_rms_adamw", rest=ADAMS[2]),
)
SCHEDULES = (
    ConstantSchedule(warmup=4),
    CosineSchedule(warmup=4, min_ratio=0.25),
    CosineSchedule(warmup=0),
)
TASKS = (
    GeneratedSudoku(size=4, clues=8, train=12, validation=4, test=6),
    GeneratedSudoku(size=6, clues=20, train=6, validation=2, test=2, augment=False, data_seed=3),
    MultiSudoku(train=12, validation=4, test=6),
    MultiSudoku(size=6, fewest=3, most=5, train=3, validation=2, test=2, augment=False),
    BundledSudoku(validation=7),
    SudokuCSV(name="few", train_csv="train.csv", test_csv="test.csv", validation=3, test=4),
)

INSTANCES: dict[Any, tuple[Any, ...]] = {
    Layout: LAYOUTS,
    Gradient: GRADIENTS,
    Mixer: MIXERS,
    FeedForward: FEED_FORWARDS,
    Positions: POSITIONS,
    Initial: INITIALS,
    Halting: HALTINGS,
    Rule: RULES,
    Policy: POLICIES,
    Loop: LOOPS,
    StepWeights: STEP_WEIGHTS,
    Depth: DEPTHS,
    Loss: LOSSES,
    Optimizer: OPTIMIZERS,
    Adam: ADAMS,
    Schedule: SCHEDULES,
    Task: TASKS,
}
"""Instances by union."""


def fitting(mixer: Any, positions: Any, width: int) -> Any:
    """Give the position code, or none where the mixer has no heads for it to turn."""
    head = (mixer.head_dim or width // mixer.heads) if isinstance(mixer, Attention) else 0
    turns = {Rope: head > 0, Rope2D: head > 0 and head % 4 == 0}
    return positions if turns.get(type(positions), True) else NoPositions()


ALL = tuple(dict.fromkeys(instance for instances in INSTANCES.values() for instance in instances))


def name(instance: Any) -> str:
    """Name an instance for pytest: its kind and what differs from the defaults."""
    changed = instance.model_dump(exclude_defaults=True)
    return "-".join([instance.kind, *(f"{k}={v}" for k, v in changed.items())])
