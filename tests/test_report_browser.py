"""The report opens from disk in a real browser, whole, without asking the network for anything."""

import os
import shutil
import subprocess

import pytest
from factories import make_study

from trm_lab.report import build
from trm_lab.results import collect

pytestmark = pytest.mark.slow
NETWORK = ("--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.fixture
def chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "no Chromium here: `make test-deps` installs it"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"REQUIRE_BROWSER is set, but {reason}")
        pytest.skip(reason)
    return found


def test_the_report_renders_every_figure_from_a_file(tmp_path, chromium):
    study = make_study(tmp_path / "study")
    collect(study)
    page = build(study)
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *NETWORK,
         f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.count("<svg") == page.read_text().count("<svg") >= 4
    assert "<h1" in done.stdout
    assert "</html>" in done.stdout
