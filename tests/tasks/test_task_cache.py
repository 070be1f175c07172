from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from trm_lab.errors import ConfigError
from trm_lab.tasks.cache import cached, default_folder
from trm_lab.tasks.dataset import fingerprint
from trm_lab.tasks.sudoku_generate import generate


@pytest.fixture(scope="module")
def splits():
    return generate(4, 6, {"train": 8, "test": 4}, seed=0)


def refuse():
    raise AssertionError("made again")


def same(one, two):
    for split in one.keys() | two.keys():
        for column, array in one[split].arrays().items():
            np.testing.assert_array_equal(two[split].arrays()[column], array)
            assert two[split].arrays()[column].dtype == array.dtype


def test_second_call_loads_what_the_first_made(tmp_path, splits):
    assert cached(tmp_path / "new" / "folder", "a", lambda: splits) is splits
    same(cached(tmp_path / "new" / "folder", "a", refuse), splits)


def test_identities_do_not_share_files(tmp_path, splits):
    other = generate(4, 6, {"train": 8, "test": 4}, seed=1)
    cached(tmp_path, "a", lambda: splits)
    cached(tmp_path, "b", lambda: other)
    same(cached(tmp_path, "a", refuse), splits)
    same(cached(tmp_path, "b", refuse), other)


def test_unreadable_file_is_made_again(tmp_path, splits):
    cached(tmp_path, "a", lambda: splits)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 9])
    for broken in (b"", b"no archive", whole[:100], whole[:-30], flipped + whole[middle + 9 :]):
        path.write_bytes(broken)
        assert cached(tmp_path, "a", lambda: splits) is splits
        assert path.read_bytes() == whole


def test_archive_of_other_arrays_is_made_again(tmp_path, splits):
    cached(tmp_path, "a", lambda: splits)
    (path,) = tmp_path.iterdir()
    for arrays in ({}, {"nodot": np.ones(3)}, {"train.inputs": np.ones(3)}):
        np.savez(path, **arrays)
        assert cached(tmp_path, "a", lambda: splits) is splits


def test_nothing_is_left_behind_when_making_or_writing_fails(tmp_path, splits, monkeypatch):
    with pytest.raises(AssertionError, match="made again"):
        cached(tmp_path, "a", refuse)
    assert list(tmp_path.iterdir()) == []

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    told = (
        rf"^{tmp_path}/\S+: cannot be written: No space left on device; .* make room or raise the "
        "quota, then run again, or set TRM_LAB_CACHE, where generated puzzles are stored, to"
    )
    with pytest.raises(ConfigError, match=told):
        cached(tmp_path, "a", lambda: splits)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_an_error(tmp_path, splits):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be stored here"):
        cached(tmp_path / "file", "a", lambda: splits)


def test_many_writers_and_readers_at_once(tmp_path, splits):
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: cached(tmp_path, "a", lambda: splits), range(40)):
            assert fingerprint(*found.values()) == fingerprint(*splits.values())
    assert len(list(tmp_path.iterdir())) == 1


def test_default_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TRM_LAB_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("TRM_LAB_CACHE")
    assert default_folder() == Path.home() / ".cache" / "trm_lab"
