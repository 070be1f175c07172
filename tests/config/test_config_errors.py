"""What a recipe file can have wrong, and the whole text that says so."""

import pytest

from trm_lab.config import load_recipe, preset
from trm_lab.errors import ConfigError

MLP, ATT = "preset: trm_mlp\n", "preset: trm_att\n"

CASES = {
    "a misspelt key": (
        MLP + "model:\n  widht: 64\n",
        "r.yaml:3:3: model.widht: unknown setting; did you mean width?",
    ),
    "a misspelt section": (
        MLP + "modle: {}\n",
        "r.yaml:2:1: modle: unknown setting; did you mean model?",
    ),
    "a key of another kind": (
        MLP + "model:\n  mixer: {kind: token_mlp, heads: 4}\n",
        "r.yaml:3:28: model.mixer.heads: unknown setting; known: kind",
    ),
    "a key deep inside": (
        MLP + "train:\n  optimizer:\n    lr: 1e-3\n    weight_decy: 1.0\n",
        "r.yaml:5:5: train.optimizer.weight_decy: unknown setting; did you mean weight_decay?",
    ),
    "text for a number": (
        MLP + "model:\n  layers: two\n",
        "r.yaml:3:3: model.layers: input should be a valid integer, not 'two'",
    ),
    "a truth value for a number": (
        MLP + "model:\n  layers: true\n",
        "r.yaml:3:3: model.layers: input should be a valid integer, not True",
    ),
    "a fraction for a count": (
        MLP + "model:\n  layers: 2.0\n",
        "r.yaml:3:3: model.layers: input should be a valid integer, not 2.0; did you mean 2?",
    ),
    "a number out of range": (
        MLP + "model: {n: 0}\n",
        "r.yaml:2:9: model.n: input should be greater than or equal to 1, not 0",
    ),
    "an infinite number": (
        MLP + "train: {optimizer: {lr: .inf}}\n",
        "r.yaml:2:21: train.optimizer.lr: input should be a finite number, not inf",
    ),
    "an unknown kind": (
        MLP + "supervision:\n  halting: confidance\n",
        "r.yaml:3:3: supervision.halting: no such kind 'confidance'; did you mean confidence?",
    ),
    "an unknown kind with nothing near": (
        MLP + "supervision:\n  halting: {kind: luck}\n",
        "r.yaml:3:3: supervision.halting: no such kind 'luck'; "
        "known: fixed, confidence, q_learning, residual",
    ),
    "training with the oracle": (
        MLP + "supervision:\n  halting: oracle\n",
        "r.yaml:3:3: supervision.halting: oracle knows the solution and is for evaluation only; "
        "train with another rule, then `trm-lab eval RUN --rule oracle`",
    ),
    "a residual that bfloat16 cannot have": (
        MLP + "model:\n  gradient: implicit\n",
        "r.yaml:3:3: model.gradient.tolerance 0.001 is below what train.dtype: bfloat16 can tell; "
        "give 0.0078125 or more, or float32",
    ),
    "a policy that no head answers": (
        MLP + "supervision: {halting: fixed}\neval: {policy: {kind: when_halted}}\n",
        "r.yaml:3:8: eval.policy: rule own is supervision.halting: fixed, which halts no puzzle "
        "before the last step; use policy: all_steps, or rule: residual",
    ),
    "a policy that reads an untrained head": (
        MLP + "supervision: {halting: fixed}\n"
        "eval: {policy: {kind: when_halted, rule: q_learning}}\n",
        "r.yaml:3:8: eval.policy: rule q_learning reads a head that supervision.halting: fixed "
        "does not train; use rule: residual, or policy: all_steps",
    ),
    "a policy that reads a head of weight zero": (
        MLP + "supervision: {halt_weight: 0}\neval: {policy: {kind: when_halted}}\n",
        "r.yaml:3:8: eval.policy: rule confidence reads a head that supervision.halt_weight: 0 "
        "does not train; use rule: residual, or policy: all_steps",
    ),
    "a policy that reads a value of one step": (
        MLP + "supervision: {halting: q_learning, N_sup: 1}\neval: {policy: {kind: when_halted}}\n",
        "r.yaml:3:8: eval.policy: rule q_learning reads a value of going on that "
        "supervision.N_sup: 1 does not train; use rule: residual, or policy: all_steps",
    ),
    "links without steps": (
        MLP + "supervision: {loop: {kind: slot_carry, linked: true}}\n",
        "r.yaml:2:40: supervision.loop: linked: true links the steps of an update, and steps: 1 "
        "has one",
    ),
    "links that the gradient cuts": (
        MLP + "supervision: {loop: {kind: slot_carry, steps: 2, linked: true}}\n",
        "r.yaml:2:15: supervision.loop: linked needs a gradient that reaches the start of a step; "
        "model.gradient: last_cycles leaves 14 of 21 updates without one; use whole_program",
    ),
    "links that the shortest truncation cuts": (
        MLP + "model: {gradient: {kind: random_truncation, low: 20, high: 21}}\n"
        "supervision: {loop: {kind: slot_carry, steps: 2, linked: true}}\n",
        "r.yaml:3:15: supervision.loop: linked needs a gradient that reaches the start of a step; "
        "model.gradient: random_truncation may leave 1 of 21 updates without one; use "
        "whole_program",
    ),
    "links through a solver": (
        MLP + "model: {gradient: implicit, T: 1}\ntrain: {dtype: float32}\n"
        "supervision: {loop: {kind: slot_carry, steps: 2, linked: true}}\n",
        "r.yaml:4:15: supervision.loop: linked needs a gradient that reaches the start of a step; "
        "model.gradient: implicit looks for its fixed point without a graph, whatever the start; "
        "use whole_program",
    ),
    "a learned start before a solver": (
        MLP + "model: {gradient: implicit, T: 1, initial: learned}\ntrain: {dtype: float32}\n",
        "r.yaml:2:35: model.initial: learned needs a gradient that reaches the start of a step; "
        "model.gradient: implicit looks for its fixed point without a graph, whatever the start; "
        "use whole_program, or initial: fixed",
    ),
    "a learned start that one stage cuts": (
        MLP + "model: {T: 1, initial: learned}\nsupervision: {curriculum: [{until: 0.9, T: 3}]}\n",
        "r.yaml:2:15: model.initial: learned needs a gradient that reaches the start of a step; "
        "model.gradient: last_cycles leaves 14 of 21 updates without one at n 6, T 3; use "
        "whole_program, or initial: fixed",
    ),
    "a learned start that most depths cut": (
        MLP + "model: {T: 1, initial: learned}\nsupervision: {depth: {kind: sampled, high: 4}}\n",
        "r.yaml:2:15: model.initial: learned needs a gradient that reaches the start of a step; "
        "model.gradient: last_cycles leaves 21 of 28 updates without one at n 6, T 4; use "
        "whole_program, or initial: fixed",
    ),
    "weights of steps where there is one": (
        MLP + "supervision: {N_sup: 1, step_weights: last_only}\n",
        "r.yaml:2:25: supervision: step_weights: last_only tells the steps of a puzzle apart, and "
        "N_sup: 1 has one; use uniform",
    ),
    "a loop over one step": (
        MLP + "supervision: {N_sup: 1, loop: no_carry}\n",
        "r.yaml:2:25: supervision: loop: no_carry is about the steps of a puzzle, and N_sup: 1 has "
        "one; use slot_carry, which then does the same",
    ),
    "slots that all halt at the last step": (
        MLP + "supervision: {halting: fixed, loop: {kind: full_loop, leave: any}}\n",
        "r.yaml:2:31: supervision: loop: leave: any acts where slots want to halt at different "
        "steps, and halting: fixed halts all of them at the last; use leave: all",
    ),
    "weights that do not fall": (
        MLP + "supervision: {step_weights: {kind: geometric, ratio: 1.0}}\n",
        "r.yaml:2:47: supervision.step_weights.ratio: input should be less than 1, not 1.0",
    ),
    "a stage like the recipe": (
        MLP + "supervision: {curriculum: [{until: 0.5, T: 3}]}\n",
        "r.yaml:2:15: supervision.curriculum: the stage until 0.5 is the same as what follows: "
        "n 6, T 3, N_sup 16; leave it out",
    ),
    "two stages alike": (
        MLP + "supervision: {curriculum: [{until: 0.1, n: 2}, {until: 0.5, n: 2, T: 3}]}\n",
        "r.yaml:2:15: supervision.curriculum: the stage until 0.1 is the same as the stage until "
        "0.5: n 2, T 3, N_sup 16; leave it out",
    ),
    "a stage without updates": (
        MLP + "train: {updates: 3, schedule: {warmup: 1}}\n"
        "supervision: {curriculum: [{until: 0.1, T: 1}, {until: 0.2, T: 2}]}\n",
        "r.yaml:3:15: supervision.curriculum: the stage until 0.1 ends at update 1 of 3, which "
        "leaves the stage until 0.2 no update",
    ),
    "stages that leave the recipe no update": (
        MLP + "train: {updates: 3, schedule: {warmup: 1}}\n"
        "supervision: {curriculum: [{until: 0.9, T: 1}]}\n",
        "r.yaml:3:15: supervision.curriculum: the stage until 0.9 ends at update 3 of 3, which "
        "leaves what follows no update",
    ),
    "stages that do not rise": (
        MLP + "supervision: {curriculum: [{until: 0.5, n: 1}, {until: 0.5, n: 2}]}\n",
        "r.yaml:2:15: supervision: curriculum: until must rise from stage to stage, not [0.5, 0.5]",
    ),
    "a stage that changes nothing": (
        MLP + "supervision: {curriculum: [{until: 0.5}]}\n",
        "r.yaml:2:28: supervision.curriculum.0: a stage changes nothing; give it n, T or N_sup",
    ),
    "a stage that ends with the training": (
        MLP + "supervision: {curriculum: [{until: 1.0, n: 1}]}\n",
        "r.yaml:2:29: supervision.curriculum.0.until: input should be less than 1, not 1.0",
    ),
    "a stage against a drawn depth": (
        MLP
        + "supervision:\n  depth: {kind: sampled, high: 3}\n  curriculum: [{until: 0.5, T: 1}]\n",
        "r.yaml:4:3: supervision: curriculum: depth: sampled draws T, so a stage cannot set it; "
        "leave T out of the stages, or use depth: fixed",
    ),
    "depth per puzzle against a solver": (
        MLP + "model: {gradient: implicit}\n"
        "supervision: {depth: {kind: sampled, high: 3, per: puzzle}}\n",
        "r.yaml:3:15: supervision.depth: model.gradient: implicit needs one T for all puzzles; use "
        "per: batch, or a truncation",
    ),
    "an empty range of depths": (
        MLP + "supervision: {depth: {kind: sampled, low: 3, high: 3}}\n",
        "r.yaml:2:38: supervision.depth: low 3 must be below high 3; or use depth: fixed",
    ),
    "a residual without a threshold": (
        MLP + "supervision:\n  halting: residual\n",
        "r.yaml:3:3: supervision.halting.threshold: is required",
    ),
    "no kind": (
        "task: {size: 4}\nmodel: {}\ntrain: {updates: 5000}\n",
        "r.yaml:1:1: task: needs a kind; known: sudoku, sudoku_multi, sudoku_bundled, sudoku_csv",
    ),
    "an unknown choice": (
        MLP + "train: {dtype: fp16}\n",
        "r.yaml:2:9: train.dtype: 'fp16' is not one of float32, bfloat16, float64; "
        "did you mean bfloat16?",
    ),
    "an unknown number to choose": (
        MLP + "task: {kind: sudoku, size: 5}\n",
        "r.yaml:2:22: task.size: 5 is not one of 4, 6, 9",
    ),
    "an unknown preset": (
        "preset: trm_mpl\n",
        "r.yaml:1:1: preset: no preset 'trm_mpl'; did you mean trm_mlp?",
    ),
    "a preset that is no name": (
        "preset: [trm_mlp]\n",
        "r.yaml:1:1: preset: no preset ['trm_mlp']; did you mean trm_mlp?",
    ),
    "a key given twice": (
        MLP + "seed: 1\nmodel: {n: 2}\nseed: 2\n",
        "r.yaml:4:1: found duplicate key seed",
    ),
    "heads that do not divide the width": (
        ATT + "model:\n  width: 100\n",
        "r.yaml:3:3: model: width 100 does not split into 8 heads of even width; "
        "heads: 10 does, or give mixer.head_dim",
    ),
    "heads of odd width": (
        ATT + "model:\n  width: 24\n",
        "r.yaml:3:3: model: width 24 does not split into 8 heads of even width; "
        "heads: 6 does, or give mixer.head_dim",
    ),
    "rotary positions with a token MLP": (
        MLP + "model:\n  positions: rope\n",
        "r.yaml:3:3: model: positions: rope acts inside attention only and would be ignored by "
        "mixer: token_mlp; use positions: none or learned",
    ),
    "a puzzle vector that does not fit": (
        "preset: hrm\nmodel:\n  puzzle: {dim: 600}\n",
        "r.yaml:3:12: model: puzzle.dim 600 does not fit into 1 slots of width 512; at most 512",
    ),
    "a warm-up as long as the run": (
        MLP + "train:\n  updates: 2000\n",
        "r.yaml:2:1: train: schedule.warmup 2000 leaves nothing of 2000 updates",
    ),
    "an averaged table without averaging": (
        MLP + "train: {ema: null, ema_table: true}\n",
        "r.yaml:2:20: train: ema_table: true needs a decay; give ema, as 0.999, or leave it out",
    ),
    "an averaged table without a table": (
        MLP + "model: {puzzle: null}\ntrain: {ema_table: true}\n",
        "r.yaml:3:9: train.ema_table: true averages the puzzle table, and model.puzzle: null has "
        "none",
    ),
    "steps that do not rise": (
        MLP + "eval:\n  steps: [4, 4]\n",
        "r.yaml:3:3: eval: steps must rise, not [4, 4]",
    ),
    "final steps that do not rise": (
        MLP + "eval:\n  final_steps: [1, 4, 2]\n",
        "r.yaml:3:3: eval: final_steps must rise, not [1, 4, 2]",
    ),
    "a step of a list out of range": (
        MLP + "eval:\n  final_steps: [0, 3]\n",
        "r.yaml:3:17: eval.final_steps.0: input should be greater than or equal to 1, not 0",
    ),
    "one number for a list": (
        MLP + "eval:\n  steps: 4\n",
        "r.yaml:3:3: eval.steps: input should be a list, not 4",
    ),
    "too few of a pair": (
        MLP + "train: {optimizer: {betas: [0.9]}}\n",
        "r.yaml:2:21: train.optimizer.betas.1: is required",
    ),
    "more clues than a grid has cells": (
        MLP + "task:\n  kind: sudoku\n  size: 4\n  clues: 16\n",
        "r.yaml:5:3: task: clues must be 4 to 15 for 4x4, not 16",
    ),
    "too few clues for one solution": (
        MLP + "task:\n  kind: sudoku\n  size: 9\n  clues: 16\n",
        "r.yaml:5:3: task: clues must be 17 to 80 for 9x9, not 16",
    ),
    "a data file of another type": (
        MLP + "task: {kind: sudoku_csv, name: x, train_csv: a.csv, test_csv: b.txt}\n",
        "r.yaml:2:53: task.test_csv: expected a .csv or .csv.gz file, not 'b.txt'",
    ),
    "a missing section": (
        "task: sudoku_bundled\nmodel: {}\n",
        "r.yaml:1:1: train: is required",
    ),
    "a missing setting": (
        "task: sudoku_bundled\nmodel: {}\ntrain:\n  batch: 8\n",
        "r.yaml:3:1: train.updates: is required",
    ),
    "an averaging that never moves": (
        MLP + "train: {ema: 1.0}\n",
        "r.yaml:2:9: train.ema: input should be less than 1, not 1.0",
    ),
    "a negative seed": (
        MLP + "seed: -1\n",
        "r.yaml:2:1: seed: input should be greater than or equal to 0, not -1",
    ),
    "a list instead of a mapping": (
        "- preset\n- trm_mlp\n",
        "r.yaml:1:1: expected a mapping of settings, found ['preset', 'trm_mlp']",
    ),
    "an empty file": ("", "r.yaml:1:1: expected a mapping of settings, found nothing"),
    "a key that is no text": (
        MLP + "1: 2\n",
        "r.yaml:2:1: the name of a setting is text, not 1",
    ),
    "a misspelt preset": (
        "seed: 1\npreste: trm_mlp\n",
        "r.yaml:2:1: preste: unknown setting; did you mean preset?",
    ),
    "a word that was a truth value": (
        MLP + "train: {ema_table: off}\n",
        "r.yaml:2:9: train.ema_table: input should be a valid boolean, not 'off'; did you mean "
        "false?",
    ),
    "a number in quotes": (
        MLP + "model:\n  width: '64'\n",
        "r.yaml:3:3: model.width: input should be a valid integer, not '64'; did you mean 64?",
    ),
    "a power of ten for a count": (
        MLP + "train: {updates: 5.5e3}\n",
        "r.yaml:2:9: train.updates: input should be a valid integer, not 5500.0; did you mean "
        "5500?",
    ),
    "a number with a gap": (
        MLP + "train: {optimizer: {lr: 1_0.5}}\n",
        "r.yaml:2:21: train.optimizer.lr: input should be a valid number, not '1_0.5'; did you "
        "mean 10.5?",
    ),
    "no YAML": ("a: [1\nb: 2\n", "r.yaml:2:2: expected ',' or ']', but got ':'"),
    "a tab": ("a:\n\t- b\n", "r.yaml:2:1: found character '\\t' that cannot start any token"),
    "two documents": ("a: 1\n---\nb: 2\n", "r.yaml:2:1: but found another document"),
    "a character that no text has": (
        "seed: 1\nmodel: \x00\n",
        "r.yaml:2:8: special characters are not allowed",
    ),
    "an alias of itself": (
        "model: &m {layers: *m}\n",
        "r.yaml:1:20: *m stands inside &m: nested without end",
    ),
    "an alias of a list in itself": (
        "eval:\n  steps: &a [*a]\n",
        "r.yaml:2:14: *a stands inside &a: nested without end",
    ),
    "what nests too deep": (
        "model: " + "[" * 2000,
        "r.yaml:1:57: nested more than 50 deep",
    ),
}


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES)
def test_an_error_says_where_and_what(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(text, "r.yaml")
    assert str(error.value) == message


def test_all_errors_come_at_once_in_the_order_of_the_settings() -> None:
    text = MLP + "modle: {}\nmodel:\n  n: 0\n  T: x\ntrain: {ema: 2.0}\nsed: 3\n"
    with pytest.raises(ConfigError) as error:
        load_recipe(text, "r.yaml")
    assert str(error.value).split("\n") == [
        "r.yaml:4:3: model.n: input should be greater than or equal to 1, not 0",
        "r.yaml:5:3: model.T: input should be a valid integer, not 'x'",
        "r.yaml:6:9: train.ema: input should be less than 1, not 2.0",
        "r.yaml:2:1: modle: unknown setting; did you mean model?",
        "r.yaml:7:1: sed: unknown setting; did you mean seed?",
    ]


def test_a_preset_with_changes_is_checked_like_a_file() -> None:
    with pytest.raises(ConfigError) as error:
        preset("trm_mlp", model={"widht": 64}, sede=1)
    assert str(error.value) == (
        "preset(): model.widht: unknown setting; did you mean width?\n"
        "preset(): sede: unknown setting; did you mean seed?"
    )
    with pytest.raises(ConfigError) as error:
        preset("trm")
    assert str(error.value) == "preset(): preset: no preset 'trm'; did you mean trm_att?"
