import gzip

import numpy as np
import pytest

from trm_lab.errors import ConfigError
from trm_lab.tasks import sudoku_csv
from trm_lab.tasks.build import BUNDLED
from trm_lab.tasks.sudoku_grid import BLANK, signature

HEADER = "source,question,answer,rating"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ARABIC_FOUR = "\u0664"
LATIN = "".join(ANSWER[shift:9] + ANSWER[:shift] for shift in range(9))
ROW = f"list,{QUESTION},{ANSWER},12"


def changed(text, place, character):
    return text[: place - 1] + character + text[place:]


def write_lines(folder, *lines, name="some.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def error_of(path):
    with pytest.raises(ConfigError) as caught:
        sudoku_csv.read(path)
    return str(caught.value)


def test_reads_tokens_and_what_is_known(tmp_path):
    path = write_lines(
        tmp_path, HEADER, ROW, f"other list,{QUESTION.replace('.', '0')},{ANSWER},", name="a.csv"
    )
    puzzles = sudoku_csv.read(str(path))
    assert len(puzzles) == 2
    assert puzzles.inputs.dtype == puzzles.labels.dtype == np.uint8
    assert puzzles.inputs[0, :5].tolist() == [6, 4, BLANK, BLANK, 8]
    assert puzzles.labels[0, :5].tolist() == [6, 4, 5, 7, 8]
    np.testing.assert_array_equal(puzzles.inputs[1], puzzles.inputs[0])
    assert puzzles.clues.tolist() == [30, 30]
    np.testing.assert_array_equal(puzzles.rating, np.array([12, np.nan], dtype=np.float32))
    assert np.isnan(puzzles.guesses).all()
    assert puzzles.source.tolist() == ["list", "other list"]
    np.testing.assert_array_equal(puzzles.signature, signature(puzzles.inputs, puzzles.labels, 9))


def test_reads_the_optional_guesses_windows_lines_and_a_missing_last_newline(tmp_path):
    path = tmp_path / "some.csv"
    path.write_bytes(f"{HEADER},guesses\r\n{ROW},3\r\n{ROW},\r\n{ROW},1.5".encode())
    puzzles = sudoku_csv.read(path)
    np.testing.assert_array_equal(puzzles.guesses, np.array([3, np.nan, 1.5], dtype=np.float32))


def test_written_files_read_back_the_same(tmp_path):
    puzzles = sudoku_csv.read(BUNDLED / "sudoku9_test.csv.gz").select(np.arange(30))
    ratings = np.linspace(0, 7, 30, dtype=np.float32)
    ratings[3] = np.nan
    puzzles = type(puzzles)(**puzzles.arrays() | {"rating": ratings})
    for name in ("some.csv", "some.csv.gz"):
        sudoku_csv.write(tmp_path / name, puzzles)
        again = sudoku_csv.read(tmp_path / name)
        for column, array in puzzles.arrays().items():
            np.testing.assert_array_equal(again.arrays()[column], array, err_msg=column)


def test_official_header_is_written_when_no_guesses_are_known(tmp_path):
    source = write_lines(tmp_path, HEADER, ROW)
    sudoku_csv.write(tmp_path / "copy.csv", sudoku_csv.read(source))
    assert (tmp_path / "copy.csv").read_bytes() == source.read_bytes()


def test_compressed_bytes_do_not_depend_on_name_or_time(tmp_path):
    puzzles = sudoku_csv.read(write_lines(tmp_path, HEADER, ROW))
    for name in ("one.csv.gz", "two.csv.gz"):
        sudoku_csv.write(tmp_path / name, puzzles)
    one = (tmp_path / "one.csv.gz").read_bytes()
    assert one == (tmp_path / "two.csv.gz").read_bytes()
    assert one[4:8] == b"\0\0\0\0"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (f"list,{QUESTION},{ANSWER}", f"expected 4 fields ({HEADER}), found 3"),
        ("", f"expected 4 fields ({HEADER}), found 1"),
        (f"a,b,{QUESTION},{ANSWER},1", f"expected 4 fields ({HEADER}), found 5"),
        (f"list,{QUESTION[1:]},{ANSWER},1", "question has 80 characters, expected 81"),
        (f"list,{QUESTION},{ANSWER}1,1", "answer has 82 characters, expected 81"),
        (
            f"list,{changed(QUESTION, 5, 'x')},{ANSWER},1",
            "question has 'x' at character 5, expected one of .0123456789",
        ),
        (
            f"list,{changed(QUESTION, 81, ARABIC_FOUR)},{ANSWER},1",
            f"question has '{ARABIC_FOUR}' at character 81, expected one of .0123456789",
        ),
        (
            f"list,{QUESTION},{changed(ANSWER, 7, '.')},1",
            "answer has '.' at character 7, expected one of 123456789",
        ),
        (
            f"list,{QUESTION},{changed(ANSWER, 10, '9')},1",
            "answer has 9 at row 2, column 1, where the question gives 6",
        ),
        (f"list,{QUESTION},{changed(ANSWER, 3, '5')},1", "answer repeats 5 in row 1"),
        (f"list,{'.' * 81},{ANSWER[:9] * 9},1", "answer repeats 5 in column 1"),
        (f"list,{'.' * 81},{LATIN},1", "answer repeats 3 in box 1"),
        (f"list,{QUESTION},{ANSWER},hard", "rating is 'hard', expected a number or nothing"),
        (f"list,{QUESTION},{ANSWER},nan", "rating is 'nan', expected a number or nothing"),
        (f"list,{QUESTION},{ANSWER},-1", "rating is '-1', expected a number or nothing"),
    ],
)
def test_errors_name_the_line_and_the_rule(tmp_path, row, what):
    path = write_lines(tmp_path, HEADER, ROW, ROW, row, ROW)
    assert error_of(path) == f"{path}:4: {what}"


def test_first_bad_line_is_named_even_if_another_rule_is_checked_earlier(tmp_path):
    unanswered = f"list,{QUESTION},{changed(ANSWER, 1, '0')},1"
    path = write_lines(tmp_path, HEADER, ROW, unanswered, "too,few", ROW)
    assert error_of(path).startswith(f"{path}:3: answer has '0'")
    path = write_lines(tmp_path, HEADER, ROW, "too,few", unanswered)
    assert error_of(path).startswith(f"{path}:3: expected 4 fields")


def test_line_numbers_go_on_from_chunk_to_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(sudoku_csv, "CHUNK", 2)
    path = write_lines(tmp_path, HEADER, *[ROW] * 5)
    assert len(sudoku_csv.read(path)) == 5
    path = write_lines(tmp_path, HEADER, *[ROW] * 5, "bad")
    assert error_of(path).startswith(f"{path}:7: expected 4 fields")


def test_guesses_are_checked_like_the_rating(tmp_path):
    path = write_lines(tmp_path, f"{HEADER},guesses", f"{ROW},few")
    assert error_of(path) == f"{path}:2: guesses is 'few', expected a number or nothing"


def test_wrong_header(tmp_path):
    path = write_lines(tmp_path, "question,answer", ROW)
    assert error_of(path) == (
        f"{path}:1: expected the header {HEADER} (and perhaps ,guesses), found 'question,answer'"
    )
    path.write_text("")
    assert error_of(path).endswith("found ''")


def test_file_without_puzzles(tmp_path):
    path = write_lines(tmp_path, HEADER)
    assert error_of(path) == f"{path}: no puzzles after the header"


def test_files_that_cannot_be_read(tmp_path):
    missing = tmp_path / "missing.csv"
    assert error_of(missing) == (
        f"{missing}: cannot be read: [Errno 2] No such file or directory: '{missing}'"
    )
    plain = write_lines(tmp_path, HEADER, ROW, name="plain.csv.gz")
    assert error_of(plain) == f"{plain}: cannot be read: Not a gzipped file (b'so')"
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode())[:-20])
    assert error_of(cut).startswith(f"{cut}: cannot be read: Compressed file ended before")
    latin = tmp_path / "latin.csv"
    latin.write_bytes(f"{HEADER}\nliste fran\xe7aise,{QUESTION},{ANSWER},1\n".encode("latin-1"))
    assert error_of(latin).startswith(f"{latin}: cannot be read: 'utf-8' codec can't decode")


def test_line_of_counts_from_the_header():
    assert sudoku_csv.line_of(0) == 2


def test_official_files_are_read_and_disjoint_up_to_symmetry(shared):
    folder = shared / "data" / "sudoku_extreme_1k"
    train = sudoku_csv.read(folder / "train.csv")
    test = sudoku_csv.read(folder / "test_hard.csv")
    assert (len(train), len(test)) == (1000, 20000)
    assert (train.clues.min(), train.clues.max()) == (17, 35)
    assert train.rating.mean() == pytest.approx(21.05, abs=0.01)
    assert test.rating.mean() == pytest.approx(22.22, abs=0.01)
    assert (test.source == "puzzles4_forum_hardest_1905").sum() == 9906
    assert not set(train.signature.tolist()) & set(test.signature.tolist())
    # No two official puzzles are equal up to symmetry, by their exact canonical forms.
    assert len(set(train.signature.tolist())) == 1000
    assert len(set(test.signature.tolist())) == 20000
