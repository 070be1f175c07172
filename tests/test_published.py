import numpy as np
import pytest

from trm_lab.published import MAIN_RESULTS, TABLE_1, TABLE_2, TABLE_3, TABLES, frame


def test_every_record_names_its_source_and_that_it_is_one_run():
    for table in TABLES.values():
        for record in table:
            assert record.source.startswith("arXiv 25")
            assert record.n_runs == 1
            assert (record.percent is None) == (record.status != "reported")


def test_what_was_out_of_memory_is_a_row_without_a_number():
    table = frame(TABLE_3)
    lost = table[table["status"] == "OOM"]
    assert lost["series"].tolist() == ["TRM", "TRM"]
    assert lost["depth"].tolist() == [78, 156]
    assert lost["puzzle_accuracy"].isna().all()
    assert len(table) == 14


def test_printed_depths_follow_the_formula_except_where_the_note_says():
    for record in (*TABLE_1, *TABLE_3):
        difference = record.depth - record.effective_depth
        assert difference == (1 if record.note.startswith("printed depth") else 0)
    assert sum(bool(record.note) for record in TABLE_3) == 2


def test_tables_agree_where_they_print_the_same_run():
    reference = TABLE_1[1]
    assert reference.percent == 87.4
    assert TABLE_2[0].percent == reference.percent
    table = frame(TABLE_3).set_index(["series", "T", "n"])["percent"]
    assert table["TRM", 3, 6] == reference.percent
    assert table["HRM", 2, 2] == TABLE_1[0].percent == 55.0


def test_fractions_are_percents():
    table = frame(TABLE_1)
    assert table["puzzle_accuracy"].tolist() == pytest.approx(
        [0.55, 0.874, 0.861, 0.824, 0.799, 0.795, 0.747, 0.737, 0.565]
    )
    assert table["depth"].dtype == np.float64


def test_main_results_say_which_numbers_were_not_run_again():
    table = frame(MAIN_RESULTS).set_index(["row", "task"])
    assert len(table) == 40
    assert "copied" in table.loc[("HRM", "ARC-AGI-1"), "note"]
    assert "copied" in table.loc[("DeepSeek R1", "Maze-Hard"), "note"]
    assert "copied" not in table.loc[("DeepSeek R1", "ARC-AGI-1"), "note"]
    assert table.loc[("TRM-MLP", "Sudoku-Extreme"), "params"] == 5e6
    assert table.loc[("Grok-4-thinking", "Maze-Hard"), "status"] == "not reported"
    assert table.loc[("TRM-Att", "ARC-AGI-1"), ["percent", "tries"]].tolist() == [44.6, 2]
    assert table["source"].unique().tolist() == [
        "arXiv 2510.04871, Table 4",
        "arXiv 2510.04871, Table 5",
    ]
