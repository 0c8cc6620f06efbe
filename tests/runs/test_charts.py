"""Charts made by hand: round numbers at axes, drawings that are well-formed, curves of characters."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from fgnumba.runs import charts, page
from fgnumba.runs.charts import Line
from fgnumba.runs.page import Bar
from fgnumba.runs.text_charts import ASCII, HEIGHT, UNICODE, text_chart
from tests.tolerances_pictures import TICKS


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (0, 0.7, [0, 0.2, 0.4, 0.6]),
        (3, 3, [3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low, high, expected):
    TICKS.check(charts.ticks(low, high), expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 2.4, [0.5, 1, 2]),
        (1e-3, 2, [1e-3, 1e-2, 0.1, 1]),
        (1e-30, 1e30, [1e-30, 1e-18, 1e-6, 1e6, 1e18, 1e30]),
        (0.11, 0.12, [0.11, 0.112, 0.114, 0.116, 0.118, 0.12]),
        (0.9, 1.1, [0.9, 0.95, 1, 1.05, 1.1]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low, high, expected):
    TICKS.check(charts.log_ticks(low, high), expected)


def test_a_chart_has_its_lines_where_they_belong():
    lines = [
        Line("training <b>", [(0, 10.0), (50, 1.0), (100, 0.1)], "thin"),
        Line("validation", [(100, 1.0)], "strong"),
        Line("best", [(100, 1.0)], "ring"),
        Line("test", [(100, 0.1)], "square"),
    ]
    drawn = ElementTree.fromstring(charts.svg(lines, "loss"))
    assert drawn.attrib["aria-label"] == "loss over the step: training <b>, validation, best, test"
    paths = {path.attrib["class"]: path.attrib["d"] for path in drawn.findall("path")}
    left, right, top, bottom = 46, 384, 8, 174
    assert (
        paths["thin"]
        == f"M{left:.1f} {top:.1f}L{(left + right) / 2:.1f} {(top + bottom) / 2:.1f}L{right:.1f} {bottom:.1f}"
    )
    circles = [(c.attrib["class"], c.attrib["cx"], c.attrib["cy"]) for c in drawn.findall("circle")]
    assert circles == [("dot", "384.0", "91.0"), ("ring", "384.0", "91.0")]
    texts = [text.text for text in drawn.findall("text")]
    assert {"0.1", "1", "10", "step", "100"} <= set(texts)


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.0)],
        [(1, 0.0), (2, 5.0)],
        [(1, -3.0), (2, -3.0)],
        [(5, 1e140), (6, 1e-300)],
        [(5, 1e300), (6, 1.0)],
    ],
)
def test_a_chart_of_any_numbers_is_drawn(points):
    drawn = charts.svg([Line("one", points, "thin")], "loss")
    assert not re.search("nan|inf", drawn)
    assert drawn.count("<text") < 20
    assert ElementTree.fromstring(drawn).tag == "svg"


def test_a_chart_of_nothing_is_empty():
    assert charts.svg([Line("one", [], "thin")], "loss") == ""


@pytest.mark.parametrize("characters", [UNICODE, ASCII])
def test_a_chart_of_text_has_its_marks_where_they_belong(characters):
    thin, dot, ring, square = (characters.marks[kind] for kind in ("thin", "strong", "ring", "square"))
    lines = [
        Line("training", [(0, 10.0), (100, 0.01)], "thin"),
        Line("validation", [(50, 10.0), (100, 10.0)], "strong"),
        Line("best", [(50, 10.0)], "ring"),
        Line("test", [(100, 0.1)], "square"),
    ]
    head, *rows, axis, numbers = text_chart(lines, "loss", 71, characters)
    assert head == f"loss:   {thin} training   {dot} validation   {ring} best   {square} test"
    assert len(rows) == HEIGHT
    assert max(map(len, [*rows, axis])) == 71
    # The axis stands in column 10, and 60 columns follow it; 50 of 100 steps are in the middle.
    assert (rows[0][11 + 30], rows[0][11 + 59], rows[6][11 + 59]) == (ring, dot, square)
    tick = characters.axes[1]
    assert [row.split(tick)[0].strip() for row in rows if row[:10].strip()] == ["10", "1", "0.1", "0.01"]
    assert numbers.split() == ["0", "20", "40", "60", "80", "100"]
    if characters is ASCII:
        assert (rows[0][11], rows[-1][11 + 59]) == (thin, thin)
        assert "".join([head, *rows, axis, numbers]).isascii()
    else:
        # A line between two points passes through every column.
        assert all(
            any(0x2800 < ord(row[i]) < 0x2900 for row in rows if i < len(row))
            for i in range(11, 71)
            if i != 41
        )


@pytest.mark.parametrize("width", [40, 119])
@pytest.mark.parametrize(
    "points", [[(7, 0.0)], [(1, 2.0), (2, 2.0)], [(1, -1.0), (2, 3.0)], [(1e6, 1e140), (3e6, 1e-9)]]
)
def test_a_chart_of_text_of_any_numbers_fits(points, width):
    rows = text_chart([Line("one", points, "thin")], "loss", width)
    assert max(map(len, rows)) <= width


def test_a_chart_of_text_of_nothing_is_empty():
    assert text_chart([Line("one", [], "thin"), Line("two", [(1, 1e300)], "thin")], "loss", 80) == []


def test_a_page_escapes_what_it_shows():
    bar = page.bars([("<b>", [Bar("<i>", 1.0, "<u>", "#112233", (0.5, 1.5))])])
    table = page.table(["<a>"], [["<c>"]], wide=False)
    whole = page.document("<title>", [bar, table])
    assert not any(f"<{tag}>" in whole.split("</style>")[1] for tag in "biuac")
    assert "&lt;title&gt;" in whole


def test_bars_of_zero_are_drawn():
    drawn = page.bars([("none", [Bar("a", 0.0, "0", "#112233")]), ("empty", [])])
    assert "width:0.00%" in drawn
    assert "empty" not in drawn


def test_the_key_of_a_chart_of_text_is_as_wide_as_the_chart():
    lines = [Line(f"what number {i} is", [(i, 1.0)], "strong") for i in range(3)]
    drawn = text_chart(lines, "loss", 50, ASCII)
    assert drawn[:2] == [
        "loss:   o what number 0 is   o what number 1 is",
        "        o what number 2 is",
    ]
    assert max(map(len, drawn)) <= 50
