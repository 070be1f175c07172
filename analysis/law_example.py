"""The worked example of docs/laws.md, figure and numbers: analysis/law_example.py [folder]."""

import sys
from pathlib import Path

import pandas as pd

from trm_lab.fit import backtest, fit, predict
from trm_lab.plots import law, style

DOCS = Path(__file__).parents[1] / "docs"
LAWS = ["TestTime(r_eval, train=r_train)", "PowerFloor(r_eval)"]
PLAIN = {"cluster": "model", "interval": "none", "objective": "least_squares"}


@style.styled
def main() -> None:
    out = Path(sys.argv[-1]) if sys.argv[1:] else DOCS / "figures"
    left, right = style.figure(style.WIDE, 2.4).subplots(1, 2)
    looped = pd.read_csv(DOCS / "data" / "looped_nanochat_bpb.csv")
    for model, rows in looped.groupby("model"):
        scores = backtest(rows, "val_bpb", LAWS, along="r_eval", horizons=(1.5, 2))["score"]
        for one, missed in zip(LAWS, scores.values, strict=True):
            rmse = fit(rows, "val_bpb", one, **PLAIN).attrs["rmse"]
            print(f"{model} {one}: rmse {rmse:.1e}, held out {missed:.1e}")
    law.draw(fit(looped, "val_bpb", LAWS[0], by="model", **PLAIN), left, x="r_eval")
    runs = pd.read_csv(DOCS / "data" / "olmo_hellaswag_bpb.csv")
    made = fit(runs[runs["mode"] == "train"], "bpb", "SumPower(N, D)", cluster="model")
    law.draw(made, right, x="D")
    print(f"{made.attrs['status']}: {made.attrs['note'].partition(';')[0]}")
    for one, value, (low, high) in zip(made.param.values, made.coefficients, made.ci, strict=True):
        print(f"{one} = {float(value):.3g} [{abs(round(float(low), 3)):.3g}, {float(high):.3g}]")
    runs["ahead"] = predict(made, runs)["prediction"].values
    for run in runs[runs["mode"] == "eval"].itertuples():
        print(f"{run.model}: predicted {run.ahead:.4f}, measured {run.bpb:.4f}")
    style.save(left.figure, out / "law_example", ("svg",))


if __name__ == "__main__":
    main()
