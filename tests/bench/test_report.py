"""The HTML page of a report, in a browser too, and figures that are drawn again from their numbers."""

import re
import shutil
import subprocess

import pytest

from fgnumba import colours
from fgnumba.bench.report import redraw, results_page
from fgnumba.bench.report.report import page
from tests import tolerances_pictures


@pytest.fixture(scope="module")
def html(report):
    return page(report)


def test_the_page_needs_no_network_and_no_script(html):
    assert not re.search(r"https?://", html)
    assert not re.search(r"<(script|link|img|iframe|object)", html)
    assert len(html) < 60_000


def test_the_page_says_first_what_was_found(html, report):
    row = next(row for row in report["ratios"] if (row["name"], row["batch"]) == ("mlp", 64))
    lead = re.search(r'<p class="lead">(.*?)</p>', html)
    assert lead is not None
    assert f"takes {row['rf']:.2f} times as long as its loss alone" in lead[1]
    speed = "times as fast as" if row["rf_over_rb"] < 1 else "times as slow as"
    assert f"{speed} reverse mode" in lead[1]
    assert "Rf is the time of a forward gradient" in html


def test_bars_are_as_long_as_what_they_show(html, report):
    """Lengths are linear from 0, and an interval lies around the end of its bar."""
    section = html.split("<h2>Rf and Rb")[1].split("<h2>")[0]
    widths = [float(found) for found in re.findall(r'class="bar[^"]*" style="width:([\d.]+)%"', section)]
    rows = [
        row
        for row in report["ratios"]
        if (row["direction"], row["directions"], row["batch"]) == ("rank1", 1, 64)
    ]
    values = [row[key] for row in rows for key in ("rf", "rb")]
    longest = max(row[f"{key}_interval"][1] for row in rows for key in ("rf", "rb"))
    tolerances_pictures.WIDTH.check(widths, [100 * value / longest for value in values])
    for row in rows:
        low, high = row["rf_interval"]
        assert f"left:{low * 100 / longest:.2f}%;width:{(high - low) * 100 / longest:.2f}%" in section
        assert f"{row['rf']:.2f} [{low:.2f}, {high:.2f}]" in section


def test_the_page_has_the_colours_of_all_pictures(html):
    section = html.split("<h2>Rf and Rb")[1].split("<h2>")[0]
    kinds = re.findall(r"<span class=.name.>(R[fb])</span><span class=.room.><span class=.bar (\w+)", section)
    assert dict(kinds) == {"Rf": f"c{colours.FORWARD[1:]}", "Rb": f"c{colours.REVERSE[1:]}"}
    for colour in (colours.FORWARD, colours.REVERSE):
        assert f".c{colour[1:]} {{ background: {colour}; }}" in html
        assert f".c{colour[1:]} {{ background: {colours.on_dark(colour)}; }}" in html


def test_the_page_says_which_cases_were_disturbed(report):
    rows = [
        row | {"disturbed": "others took 20%" if number < 2 else None}
        for number, row in enumerate(report["ratios"])
    ]
    found = page({**report, "ratios": rows})
    assert f"was not quiet during 2 of {len(rows)} cases" in found
    assert found.count("<li>NOT QUIET during ") == 2


def test_a_report_of_other_cases_has_a_page(report):
    few = {**report, "ratios": [row for row in report["ratios"] if row["batch"] == 8], "peers": []}
    found = page(few)
    assert 'class="lead"' not in found
    assert "<h2>Rf and Rb" not in found
    assert "<h2>Ratios</h2>" in found


def test_the_page_in_a_browser(html, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    # The page says how wide it became in a frame of a phone's width; a window cannot be that narrow.
    (tmp_path / "report.html").write_text(html)
    (tmp_path / "phone.html").write_text(
        "<!doctype html><iframe id='phone' src='report.html' width='390' height='800'></iframe><script>"
        "window.addEventListener('load', () => setTimeout(() => {"
        "const page = document.getElementById('phone').contentDocument.documentElement;"
        "document.body.dataset.width = page.scrollWidth;"
        "document.body.dataset.bars = page.querySelectorAll('.bar').length;"
        "}, 500))</script>"
    )
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--allow-file-access-from-files", "--window-size=800,900", "--virtual-time-budget=10000"),
        *("--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}"),
    ]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", (tmp_path / "phone.html").as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r'data-(width|bars)="(\d+)"', done.stdout))
    assert int(found["bars"]) == html.count('class="bar ') > 20
    # Tables scroll by themselves; the page does not.
    assert int(found["width"]) <= 390


@pytest.mark.parametrize("name", [*redraw.DRAWN, "estimators-mlp", "estimators-all"])
def test_the_figure_of_every_result_is_drawn_again(name, tmp_path):
    folder = results_page.DATA / name
    if not folder.is_dir():
        pytest.skip("installed without the repository")
    shutil.copy(folder / "data.json", tmp_path)
    redraw.redraw(tmp_path, pytest.fail)
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    if name not in ("figure1", "beale", "rosenbrock", "memory", "local-losses"):
        assert colours.REVERSE in drawn
