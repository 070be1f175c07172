"""Parity files: the recorded ones hold, corrupted ones do not, broken ones say what is wrong."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parity import twins
from trm_lab.config import OneLatent
from trm_lab.errors import ConfigError
from trm_lab.verify import Verification, verify

Recorded = dict[str, np.ndarray]
FILES = ("trm_mlp", "trm_att", "hrm")


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    return shared / "parity"


@pytest.fixture
def check(parity: Path, tmp_path: Path) -> Callable[..., Verification]:
    """Verify a copy of a recorded file after changing it."""

    def run(change: Callable[[Recorded], Any], name: str = "trm_att") -> Verification:
        with np.load(parity / f"{name}.npz") as archive:
            recorded = {key: archive[key] for key in archive.files}
        change(recorded)
        path = tmp_path / f"{name}.npz"
        np.savez(path, **recorded)
        return verify(path)

    return run


def failed(found: Verification) -> set[str]:
    return {c.key for c in found.checks if not c.holds}


@pytest.mark.parametrize("name", FILES)
def test_the_recorded_values_of_the_released_code_hold(parity: Path, name: str) -> None:
    path = parity / f"{name}.npz"
    found = verify(path)
    assert failed(found) == set()
    assert found.holds
    assert found.unchecked == ()
    with np.load(path) as archive:
        given = {k for k in archive.files if not k.startswith(("config/", "param/", "batch"))}
    assert {c.key for c in found.checks} == given - {"stablemax/logits"}
    assert len(found.checks) == {"trm_mlp": 142, "trm_att": 144, "hrm": 190}[name]
    # Gradients and weights of the steps that were not recorded.
    assert all("/grad/" in key or "_after/" in key for key in found.absent)
    assert found.path == path


def test_the_loss_alone_is_exact(parity: Path) -> None:
    for name in FILES:
        differences = {c.key: c.difference for c in verify(parity / f"{name}.npz").checks}
        assert differences["stablemax/nll_f64"] < 1e-14
        assert differences["eval/z_H_init"] == 0
        assert differences["train/step3/halted"] == 0


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("trm_mlp", "param/inner.L_level.layers.0.mlp_t.gate_up_proj.weight"),
        ("trm_mlp", "param/inner.lm_head.weight"),
        ("trm_att", "param/inner.L_level.layers.1.self_attn.qkv_proj.weight"),
        ("trm_att", "param/inner.embed_tokens.embedding_weight"),
        ("hrm", "param/inner.H_level.layers.1.mlp.down_proj.weight"),
        ("hrm", "param/inner.H_init"),
    ],
)
def test_one_changed_weight_does_not_hold(check, name: str, key: str) -> None:
    def change(recorded: Recorded) -> None:
        recorded[key].reshape(-1)[-3] += 0.01

    found = check(change, name)
    assert not found.holds
    assert any(k.startswith("eval/step1") for k in failed(found))


@pytest.mark.parametrize(
    "key",
    [
        "eval/step1/logits",
        "eval/step3/z_H",
        "train/step2/q_halt_logits",
        "train/step3/loss_sum",
        "train/step1/grad/inner.lm_head.weight",
        "train/step3/param_after/inner.puzzle_emb.weights",
        "train/step3/ema_after/inner.q_head.bias",
        "stablemax/nll_f64",
    ],
)
def test_one_changed_value_does_not_hold_and_is_named(check, key: str) -> None:
    def change(recorded: Recorded) -> None:
        values = recorded[key].astype(np.float64)
        values.reshape(-1)[0] += 1e-3 * max(1.0, np.abs(values).max())
        recorded[key] = values

    found = check(change)
    assert not found.holds
    assert failed(found) == {key}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers_do_not_hold(check, value: float) -> None:
    def change(recorded: Recorded) -> None:
        recorded["eval/step2/logits"][0, 0, 0] = value

    found = check(change)
    assert failed(found) == {"eval/step2/logits"}
    (bad,) = [c for c in found.checks if not c.holds]
    assert bad.difference == np.inf


def test_a_weight_that_is_not_a_number_does_not_hold(check) -> None:
    def change(recorded: Recorded) -> None:
        recorded["param/inner.q_head.bias"][0] = np.nan

    found = check(change)
    assert "eval/step1/q_halt_logits" in failed(found)
    assert "eval/step1/logits" not in failed(found)


def test_a_wrong_shape_does_not_hold(check) -> None:
    def change(recorded: Recorded) -> None:
        recorded["eval/step1/logits"] = recorded["eval/step1/logits"][:2]

    assert failed(check(change)) == {"eval/step1/logits"}


def test_a_changed_flag_does_not_hold(check) -> None:
    def change(recorded: Recorded) -> None:
        recorded["train/step2/halted"] = ~recorded["train/step2/halted"]

    assert failed(check(change)) == {"train/step2/halted"}


def test_an_array_that_nothing_is_compared_with_is_named(check) -> None:
    found = check(lambda recorded: recorded.update({"eval/other": np.ones(2)}))
    assert found.holds
    assert found.unchecked == ("eval/other",)


def test_what_a_file_lacks_is_named(check) -> None:
    gone = ("eval/step2/logits", "stablemax/logits", "stablemax/nll_f64", "stablemax/grad_of_sum")

    def change(recorded: Recorded) -> None:
        for key in gone:
            del recorded[key]
        for key in [k for k in recorded if "_after/" in k or "/grad/" in k]:
            del recorded[key]

    found = check(change)
    assert found.holds
    assert found.unchecked == ()
    assert "eval/step2/logits" in found.absent
    assert "train/step3/param_after/inner.puzzle_emb.weights" in found.absent
    assert "train/step1/grad/inner.lm_head.weight" in found.absent
    assert not set(found.absent) & {c.key for c in found.checks}


@pytest.mark.parametrize("last", [1, 2])
def test_training_steps_whose_batch_is_missing_are_not_compared(check, last: int) -> None:
    """A later batch does not stand in for a missing one."""

    def change(recorded: Recorded) -> None:
        for key in [k for k in recorded if k.startswith(f"batch{last}/")]:
            del recorded[key]

    found = check(change)
    assert found.holds
    assert "train/step1/logits" in {c.key for c in found.checks}
    assert f"train/step{last + 1}/logits" in found.unchecked


def test_a_file_without_any_batch_does_not_hold(check) -> None:
    def change(recorded: Recorded) -> None:
        for key in [k for k in recorded if k.startswith("batch")]:
            del recorded[key]

    found = check(change)
    assert not found.holds
    assert found.checks == ()
    assert "eval/step1/logits" in found.unchecked


@pytest.mark.parametrize("name", ["trm_att", "trm_mlp"])
def test_a_model_without_puzzle_slots_is_compared(parity: Path, tmp_path: Path, name: str) -> None:
    """No puzzle embedding: nothing in front, and the halting head reads the first cell.

    The expected values are computed here by the naive twins, in float64.
    """
    with np.load(parity / f"{name}.npz") as archive:
        kept = ("config/", "param/", "batch")
        recorded = {k: archive[k] for k in archive.files if k.startswith(kept)}
    del recorded["param/inner.puzzle_emb.weights"]
    recorded |= {
        "config/puzzle_emb_ndim": np.array(0),
        "config/puzzle_emb_len": np.array(0),
    }
    if name == "trm_mlp":
        # Without the prefix the token axis is 16, not 32.
        for key in [k for k in recorded if "mlp_t." in k]:
            cut = recorded[key]
            recorded[key] = cut[:, :16] if "gate_up" in key else cut[:16]
    recorded |= expected_evaluation(recorded)
    path = tmp_path / f"{name}_nopuzzle.npz"
    np.savez(path, **recorded)
    found = verify(path)
    assert failed(found) == set()
    assert found.holds
    assert found.unchecked == ()
    assert len(found.checks) == 11
    assert {"train/step1/logits", "eval/step1/q_continue_logits"} <= set(found.absent)
    assert not any("puzzle_emb" in key for key in found.absent)


def expected_evaluation(recorded: Recorded) -> Recorded:
    """Two evaluation steps of TRM without puzzle slots, by the naive twins."""
    w = {k.removeprefix("param/inner."): v.astype(np.float64) for k, v in recorded.items()
         if k.startswith("param/")}  # fmt: skip
    config = {k.removeprefix("config/"): v.item() for k, v in recorded.items() if "config/" in k}
    ours = {
        "mixer.qkv": "self_attn.qkv_proj", "mixer.out": "self_attn.o_proj",
        "mixer.gate_up": "mlp_t.gate_up_proj", "mixer.down": "mlp_t.down_proj",
        "ffn.gate_up": "mlp.gate_up_proj", "ffn.down": "mlp.down_proj",
    }  # fmt: skip

    def net(h: np.ndarray) -> np.ndarray:
        for layer in range(config["L_layers"]):
            names = {a: f"L_level.layers.{layer}.{b}.weight" for a, b in ours.items()}
            block = {a: w[b] for a, b in names.items() if b in w}
            if config["mlp_t"]:
                h = twins.token_mlp_block(h, block)
            else:
                h = twins.attention_block(h, block, config["num_heads"], 10000.0)
        return h

    width, found = config["hidden_size"], {}
    rows = []
    for tokens in recorded["batch0/inputs"]:
        x = w["embed_tokens.embedding_weight"][tokens] * np.sqrt(width)
        y, z = (np.tile(w[k], (len(tokens), 1)) for k in ("H_init", "L_init"))
        steps = [{"input_embeddings": x, "z_H_init": y, "z_L_init": z}]
        for _ in (1, 2):
            y, z = twins.trm(y, z, x, net, config["L_cycles"], config["H_cycles"])
            halt = w["q_head.weight"] @ y[0] + w["q_head.bias"]
            steps.append(
                {"logits": y @ w["lm_head.weight"].T, "q_halt_logits": halt[0], "z_H": y, "z_L": z}
            )
        rows.append(steps)
    for step, parts in enumerate(zip(*rows, strict=True)):
        at = f"eval/step{step}/" if step else "eval/"
        for key in parts[0]:
            found[at + key] = np.stack([part[key] for part in parts])
    return found


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "No data left in file"),
        (b"PK\x03\x04 and no more", "File is not a zip file"),
    ],
    ids=["empty", "cut"],
)
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        verify(path)
    assert str(error.value) == f"{path}: not an .npz archive: {why}"


def test_text_pickles_and_single_arrays_are_refused(parity: Path, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    array, pickled = io.BytesIO(), io.BytesIO()
    np.save(array, np.ones(3))
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    whole = (parity / "trm_att.npz").read_bytes()
    broken = whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:]
    for content, why in (
        (b"hello", "no plain arrays in it"),
        (array.getvalue(), "a single array"),
        (pickled.getvalue(), "no plain arrays in it"),
        (whole[:9999], "File is not a zip file"),
        (broken, ""),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            verify(path)
        assert str(error.value).startswith(f"{path}: not an .npz archive: {why}")
        assert "allow_pickle" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        verify(tmp_path / "none.npz")
    assert str(error.value) == f"{tmp_path / 'none.npz'}: no such file"


def test_an_archive_without_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, a=np.ones(2))
    with pytest.raises(ConfigError) as error:
        verify(path)
    expected = f"{path}: holds no config/* and param/* arrays, so no recorded model"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r.pop("config/L_cycles"), "lacks L_cycles"),
        (lambda r: r.pop("batch1/labels"), "lacks batch1/labels"),
        (
            lambda r: r.update({"config/pos_encodings": np.array("alibi")}),
            "cannot be replayed: pos_encodings 'alibi' is not one of rope, learned, none",
        ),
        (
            lambda r: r.pop("param/inner.q_head.bias"),
            "cannot be replayed: state dict does not fit the model: missing inner.q_head.bias",
        ),
        (
            lambda r: r.update({"param/inner.other": np.ones(2)}),
            "cannot be replayed: state dict does not fit the model: unknown inner.other",
        ),
        (
            lambda r: r.update({"param/inner.q_head.bias": np.ones(3)}),
            "cannot be replayed: state dict does not fit the model: "
            "inner.q_head.bias is (3,), expected (2,)",
        ),
        (
            lambda r: r.update({"batch0/inputs": r["batch0/inputs"] + 7}),
            "cannot be replayed: batch0/inputs holds tokens outside 0..10",
        ),
        (
            lambda r: r.update({"batch0/inputs": r["batch0/inputs"][:, :5]}),
            "cannot be replayed: batch0/inputs is (3, 5)",
        ),
    ],
    ids=lambda value: value.split(": ")[-1] if isinstance(value, str) else "",
)
def test_what_cannot_be_replayed_is_refused_with_its_reason(
    check, tmp_path: Path, change: Callable[[Recorded], Any], what: str
) -> None:
    with pytest.raises(ConfigError) as error:
        check(change)
    assert str(error.value) == f"{tmp_path / 'trm_att.npz'}: {what}"


def test_levels_of_unequal_depth_are_refused(check, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        check(lambda r: r.update({"config/H_layers": np.array(3)}), "hrm")
    assert str(error.value) == (
        f"{tmp_path / 'hrm.npz'}: cannot be replayed: H_layers 3 and L_layers 2 differ; "
        "nets here have equal depth"
    )


def test_the_layout_can_be_said(parity: Path) -> None:
    """With one latent less the state dict does not fit, and both tensors are named."""
    with pytest.raises(ConfigError, match=r"unknown inner\.H_init$"):
        verify(parity / "trm_att.npz", OneLatent())


def test_verification_leaves_torch_as_it_was(parity: Path) -> None:
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_num_threads()
    verify(parity / "trm_att.npz")
    after = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
