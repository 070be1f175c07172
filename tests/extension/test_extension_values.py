"""What somebody else's code computes is held to its contract: a wrong shape would be broadcast."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.extension.test_extension import EXECUTION, recipe
from trm_lab.config import recipe_from
from trm_lab.config.source import Source, merge
from trm_lab.core.own import addend, per_slot
from trm_lab.errors import ConfigError
from trm_lab.runs import RunFolder, State
from trm_lab.tasks.dataset import Puzzles
from trm_lab.training import train

HEAD = """
import torch
from my_parts import Mean, Sorting, Sure
from torch.nn.functional import binary_cross_entropy_with_logits as bce
"""
RULE = """class Rule(Sure):
    def {}:
        {}
"""
LOSSES = RULE.format("losses(self, halt, correct)", "{}")
WANTS = RULE.format("wants_to_halt(self, shown)", "return {}")
MIX = """class Mix(Mean):
    def build(self, model, positions, dtype, device):
        return lambda weights, h: {}
"""
NUMBERS = "not float32 of shape (8,): one of each slot"
FLAGS = "not bool of shape (8,): one of each slot"
ADDED = "cannot be added to float32 of shape (8, 5, 16) (an axis may be 1)"
WRONG = {
    # The mean over the batch would weigh an eighth.
    "mean": (LOSSES.format("return bce(halt[..., 0], correct.float()), halt.new_zeros(len(halt))"),
             f"losses gives float32 of shape (), {NUMBERS}"),
    # A column would weigh every slot by the weights of all.
    "column": (LOSSES.format("l = bce(halt[..., :1], correct[:, None].float(), reduction='none')\n"
                             "        return l, torch.zeros_like(l)"),
               f"losses gives float32 of shape (8, 1), {NUMBERS}"),
    "going on": (LOSSES.format("return halt[..., 0] * 0, halt.new_zeros(())"),
                 f"losses gives float32 of shape (), {NUMBERS}"),
    "whole numbers": (LOSSES.format("return correct.long(), halt[..., 0]"),
                      f"losses gives int64 of shape (8,), {NUMBERS}"),
    "one": (LOSSES.format("return halt.T"), "losses gives Tensor, not a tuple of two tensors"),
    "wide": (WANTS.format("shown.halt[..., :1] > 0"),
             f"wants_to_halt gives bool of shape (8, 1), {FLAGS}"),
    "floats": (WANTS.format("shown.halt[..., 0].sigmoid()"),
               f"wants_to_halt gives float32 of shape (8,), {FLAGS}"),
    "nothing": (WANTS.format("None"), f"wants_to_halt gives NoneType, {FLAGS}"),
    "more": (MIX.format("h.mean() * torch.ones(3, 1, 1, 1)"),
             f"the mix gives float32 of shape (3, 1, 1, 1), which {ADDED}"),
    "no positions": (MIX.format("h.mean(-2)"), f"the mix gives float32 of shape (8, 16), which "
                     f"{ADDED}"),
    "doubles": (MIX.format("h.double()"), f"the mix gives float64 of shape (8, 5, 16), which "
                f"{ADDED}"),
}  # fmt: skip


def changed(**changes: Any) -> Any:
    return recipe_from(Source(merge(recipe().as_dict(), changes), "r"))


@pytest.mark.parametrize("case", WRONG)
def test_what_a_part_computes_is_held_to_its_contract(folder: Path, case: str) -> None:
    text, expected = WRONG[case]
    (folder / "theirs.py").write_text(HEAD + text)
    rule = "class Rule" in text
    found = (
        changed(supervision={"halting": "theirs:Rule"})
        if rule
        else changed(model={"mixer": "theirs:Mix"})
    )
    who = "supervision.halting: theirs:Rule" if rule else "model.mixer: theirs:Mix"
    with pytest.raises(ConfigError) as error:
        train(found, folder / "run", execution=EXECUTION)
    assert str(error.value) == f"{who}: {expected}"
    assert RunFolder(folder / "run").state() is State.FAILED


def test_what_keeps_to_the_contract_is_given_back() -> None:
    h = torch.zeros(4, 3, 2, dtype=torch.bfloat16)
    for fits in (h, h[:1], h[:, :1], h[..., :1]):
        assert addend(fits, h, "mix") is fits
    assert addend(h, h.float(), "mix") is h
    losses, flags = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.bool)
    assert per_slot(losses, h[:, 0, 0], "losses") is losses
    assert per_slot(flags, h[:, 0, 0], "wants", flags=True) is flags


def test_tokens_are_bytes(folder: Path) -> None:
    inputs = np.array([[1, 2], [3, 255]])
    assert Puzzles.of(inputs, inputs).labels.tolist() == inputs.tolist()
    for wrong, expected in (
        (inputs + 1, "puzzles: tokens from 2 to 256, not all in 0..255"),
        (inputs - 2, "puzzles: tokens from -1 to 253, not all in 0..255"),
    ):
        for pair in ((wrong, inputs), (inputs, wrong)):
            with pytest.raises(ConfigError) as error:
                Puzzles.of(*pair)
            assert str(error.value) == expected
    with pytest.raises(ConfigError) as error:
        Puzzles.of(inputs, inputs[:, :1])
    assert str(error.value) == (
        "puzzles: inputs of shape (2, 2) and labels of (2, 1), not both puzzles x cells"
    )
    (folder / "theirs.py").write_text(
        HEAD + "class Many(Sorting):\n vocabulary = property(lambda s: 257)\n"
        "class Raw(Sorting):\n def load(self, cache):\n"
        "  return {k: p.inputs for k, p in super().load(cache).items()}\n"
    )
    with pytest.raises(ConfigError, match=r"theirs:Many: vocabulary must be 256 at most, not 257"):
        changed(task={"kind": "theirs:Many"})
    with pytest.raises(ConfigError, match=r"^task theirs:Raw: train is ndarray, not Puzzles$"):
        train(changed(task={"kind": "theirs:Raw"}), folder / "run", execution=EXECUTION)
