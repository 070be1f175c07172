"""YAML with places, settings of the command line, and laying one mapping over another."""

from pathlib import Path

import pytest

from trm_lab.config.source import Source, merge, parse_setting, parse_yaml, read_yaml
from trm_lab.errors import ConfigError, near_miss, near_path

TEXT = """\
model:
  width: 64
  mixer: {kind: attention, heads: 4}
eval:
  steps:
    - 1
    - 16
"""


def test_numbers_and_words_are_those_of_yaml_1_2() -> None:
    data = parse_yaml(
        "a: 1e-4\nb: 1.5E3\nc: off\nd: yes\ne: true\nf: null\ng: 012\nh: 1_000\ni: 0x10\nj: .5\n",
        "x",
    ).data
    assert data == {
        "a": 1e-4, "b": 1500.0, "c": "off", "d": "yes", "e": True, "f": None, "g": 12,
        "h": "1_000", "i": 16, "j": 0.5,
    }  # fmt: skip
    assert type(data["a"]) is float
    assert type(data["e"]) is bool


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "x:3:1: found duplicate key a"),
        ("a: {b c: 1, b c: 2}\n", "x:1:13: found duplicate key b c"),
        ("a: 1\n? a\n: 2\n", "x:2:3: found duplicate key"),
    ],
)
def test_a_key_given_twice_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "x")
    assert str(error.value) == told


def test_every_path_has_its_line_and_column() -> None:
    source = parse_yaml(TEXT, "r.yaml")
    assert source.text == TEXT
    assert source.places[()] == (1, 1)
    assert source.places[("model",)] == (1, 1)
    assert source.places[("model", "width")] == (2, 3)
    assert source.places[("model", "mixer", "heads")] == (3, 28)
    assert source.places[("eval", "steps", 1)] == (7, 7)


def test_a_path_that_is_not_written_is_placed_at_what_is() -> None:
    source = parse_yaml(TEXT, "r.yaml")
    assert source.place(("model", "mixer", "colour")) == "r.yaml:3:3"
    assert source.place(("train", "updates")) == "r.yaml:1:1"
    assert Source({}, "r.yaml").place(("a",)) == "r.yaml"


def test_an_argument_is_the_place_of_what_it_set() -> None:
    source = Source({}, "r.yaml", {(): (1, 1), ("a",): (2, 1)}, {("a", "b"): "--set a.b=1"})
    assert source.place(("a", "b", "c")) == "--set a.b=1"
    assert source.place(("a", "x")) == "r.yaml:2:1"


def test_a_part_keeps_its_places() -> None:
    part = parse_yaml(TEXT, "r.yaml").below("eval", "steps")
    assert part.data == [1, 16]
    assert part.place((1,)) == "r.yaml:7:7"
    assert part.place(()) == "r.yaml:5:3"


def test_a_setting_is_a_dotted_name_and_a_yaml_value() -> None:
    assert parse_setting("model.T=3") == (("model", "T"), 3)
    assert parse_setting("train.optimizer.lr=1e-4") == (("train", "optimizer", "lr"), 1e-4)
    assert parse_setting("eval.steps=[1, 2]") == (("eval", "steps"), [1, 2])
    assert parse_setting("task.name=a=b") == (("task", "name"), "a=b")
    for wrong in ("model.T", "=3", "model..T=3", ".T=3"):
        with pytest.raises(ConfigError) as error:
            parse_setting(wrong)
        assert str(error.value) == (
            f"--set {wrong}: expected a dotted name, '=' and a value: model.T=3"
        )


def test_mappings_merge_and_everything_else_is_replaced() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2], "c": 3}
    change = {"a": {"y": {"w": 4}}, "b": [5], "d": None}
    expected = {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": [5], "c": 3, "d": None}
    assert merge(base, change) == expected
    assert base["a"] == {"x": 1, "y": {"z": 2}}
    assert merge({"a": {"x": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": None}, {"a": {"x": 1}}) == {"a": {"x": 1}}


def test_another_kind_replaces_all_that_belonged_to_the_first() -> None:
    base = {"mixer": {"kind": "attention", "heads": 8}}
    assert merge(base, {"mixer": {"kind": "token_mlp"}}) == {"mixer": {"kind": "token_mlp"}}
    assert merge(base, {"mixer": {"heads": 4}}) == {"mixer": {"kind": "attention", "heads": 4}}
    same = merge(base, {"mixer": {"kind": "attention", "head_dim": 6}})
    assert same == {"mixer": {"kind": "attention", "heads": 8, "head_dim": 6}}
    assert merge(base, {"mixer": "token_mlp"}) == {"mixer": "token_mlp"}


@pytest.mark.parametrize(
    ("said", "there", "meant"),
    [
        ("grad.yml", ["studies/grad.yaml", "studies/gradient_scheme.yaml"], "studies/grad.yaml"),
        ("grad", ["studies/grad.yaml", "studies/gradient.yaml"], "studies/grad.yaml"),
        ("studies/grad.yml", ["studies/grad.yaml", "studies/grad_2.yaml"], "studies/grad.yaml"),
        ("run.csv", ["runs.csv", "runs.sum_power.nc"], "runs.csv"),
        ("mine", ["runs/mine-smoke-set-f856b2", "studies/mine.yaml"], "studies/mine.yaml"),
    ],
)
def test_a_whole_name_is_nearer_than_one_that_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, there: list[str], meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in there:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert near_path(Path(said)) == f"; did you mean {meant}?"


def test_the_beginning_of_a_name_is_nearer_than_a_similar_name() -> None:
    assert near_miss("conf", ["cosine", "confidence"], cutoff=0.5) == "confidence"
    assert near_miss("table_2", ["table_1", "table_2/many", "table_2/one"]) == "table_2/one"


def test_files_that_cannot_be_read_are_named_with_the_near_miss(tmp_path: Path) -> None:
    (tmp_path / "depth.yaml").write_text("a: 1\n")
    assert read_yaml(tmp_path / "depth.yaml").data == {"a": 1}
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path / "dept.yaml")
    assert str(error.value) == (
        f"{tmp_path / 'dept.yaml'}: no such file; did you mean {tmp_path / 'depth.yaml'}?"
    )
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path / "other" / "x.yaml")
    assert str(error.value) == f"{tmp_path / 'other' / 'x.yaml'}: no such file"
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:1:4: byte 0xff is not text in UTF-8$"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        read_yaml(tmp_path)
