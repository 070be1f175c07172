"""Laws as values and as text."""

import pytest
from law_cases import CASES, Case, name

from trm_lab.errors import ConfigError
from trm_lab.laws import (
    LAWS,
    M4,
    EffectiveN,
    Law,
    Logistic,
    Power,
    PowerError,
    SumPower,
    TestTime,
    law,
)

every_case = pytest.mark.parametrize("case", CASES, ids=name)


@every_case
def test_a_law_is_read_back_from_its_text(case: Case):
    assert law(str(case[0])) == case[0]


@pytest.mark.parametrize("column", ["n params", "model.T", "a-b", "lambda", "3", "it's", "T'", "é"])
def test_any_name_of_a_column_is_read_back(column: str):
    made: list[Law] = [one(column, "D") if one is SumPower else one(column) for one in LAWS]
    made += [SumPower(EffectiveN(column, column, r=column), "D"), TestTime("T", train=column)]
    made += [Power(EffectiveN("a", "b", n=column, T=column)), M4(column, error_rate=True)]
    for one in made:
        assert law(str(one)) == one
        assert column in law(str(one)).columns_read


@pytest.mark.parametrize("made", LAWS, ids=lambda one: one.name)
def test_a_plain_name_is_a_law_of_one_column(made: type[Law]):
    assert law(made.name, "depth") == law(made.__name__, "depth") == made("depth")
    assert law(made.name, "depth").columns_read == ("depth",)


def test_laws_are_values():
    assert SumPower("N", "D") == SumPower("N", "D")
    assert SumPower("N", "D") != SumPower("N", "D", shared=True)
    assert law(" SumPower( N,D ) ") == SumPower("N", "D")
    assert len({law("power_error", "x"), PowerError("x")}) == 1
    assert law("SumPower(EffectiveN(N_once, N_rec, n=n, T=T), D)") == SumPower(
        EffectiveN("N_once", "N_rec", n="n", T="T"), "D"
    )


def test_parameters_are_held_at_values():
    made = SumPower("N", "D").hold(E=1.5, alpha_N=0.3)
    held = {p.name: (p.lower, p.upper) for p in made.parameters if p.fixed}
    assert held == {"E": (1.5, 1.5), "alpha_N": (0.3, 0.3)}
    assert law("SumPower(N, D, E=1.5, alpha_N=0.3)") == made
    assert made.hold(E=0.0).hold(E=1.5) == made
    assert made.names == SumPower("N", "D").names
    assert [p.fixed for p in Logistic("x", chance=0.25).parameters] == [False, True, False, False]
    assert not any(p.fixed for p in Logistic("x", chance=None).parameters)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "satrating(x)",
            r"law: 'satrating' is not one of .*Saturating.*; did you mean 'saturating'",
        ),
        ("SumPowr(N, D)", r"'SumPowr' is not one of .*; did you mean 'SumPower'"),
        ("SumPower(EffectivN(a, b, r=r), D)", r"did you mean 'EffectiveN'"),
        ("Saturating", r"law Saturating: of which column\? write Saturating\(column\)"),
        ("SumPower(N, D", r"cannot read 'SumPower\(N, D'; a '\)' is missing"),
        ("SumPower(n params, D)", r"write Name\(column, ...\), with quotes about a column's name"),
        ("SumPower[N, D]", r"cannot read 'SumPower\[N, D\]'; write Name\(column, ...\)"),
        ("SumPower(N, D, E='a')", "law SumPower: E is held at a finite number, not 'a'"),
        ("SumPower(N, D, fixed=3)", "no parameter 'fixed'; it has E, A_N"),
        ("SumPower(3, D)", r"axes cannot be 3; write SumPower\(\*axes, shared\)"),
        ("BNSL(x, breaks=k)", r"breaks cannot be 'k'; write BNSL\(x, breaks\)"),
        ("TestTime(T, train=3)", r"train cannot be 3; write TestTime\(x, train\)"),
        ("Saturating(EffectiveN(a, b, r=r))", r"x cannot be EffectiveN\(a, b, r=r\)"),
        ("Power()", r"missing a required argument: 'x'; write Power\(x\)"),
        ("SumPower()", "SumPower: at least one axis"),
        ("SumPower(EffectiveN(a, b), D)", "give either r, or both n and T"),
        ("SumPower(N + D)", r"cannot read 'N \+ D'"),
        ("EffectiveN(a, b, r=r)", "is not a law"),
        ("3", "is not a law"),
        ("Power(x, y)", r"law Power: too many positional arguments; write Power\(x\)"),
        ("Power(x, beta=1)", "law power: no parameter 'beta'; it has A, alpha"),
        ("PowerFloor(x, E=-1)", r"law power_floor: E must lie in \[0, inf\], not -1"),
        ("Saturating(x, c=1.5)", r"law saturating: c must lie in \[0, 1\], not 1.5"),
        ("Power(x, A=1e999)", "A is held at a finite number, not inf"),
    ],
)
def test_a_text_that_is_no_law_is_refused(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        law(text)


def test_holding_what_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="law power: no parameter 'E'; it has A, alpha"):
        Power("x").hold(E=1.0)
    with pytest.raises(ConfigError, match=r"alpha must lie in \[-10, 10\], not 11"):
        Power("x").hold(alpha=11.0)
