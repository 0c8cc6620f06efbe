"""Tables of models, runs and data: as text, and as HTML for notebooks."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.objects.table import MOST_ROWS, as_html
from tests.graph_cases import WIRINGS


@pytest.mark.parametrize("name", WIRINGS)
def test_a_summary_counts_what_the_model_has(name):
    nodes, shape = WIRINGS[name]
    model = fg.Graph(nodes, shape)
    lines = model.summary().splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "multiply-adds"]
    assert [line.split()[0] for line in lines[1:]] == [*(node.name for node in model.nodes), "total"]
    parameters, products = (int(cell.replace(",", "")) for cell in lines[-1].split()[-2:])
    assert parameters == model.parameter_count
    plan = model.plan(1)
    assert products == sum(row.primal for row in plan.rows)


def test_a_summary_of_a_small_model():
    model = fg.Sequential([fg.Conv2d(16, 3, activation="relu"), fg.Flatten(), fg.Dense(10)], (28, 28, 3))
    assert model.summary() == (
        "layer  type         output    parameters  multiply-adds\n"
        "0      Conv2d relu  26x26x16         448        292,032\n"
        "1      Flatten      10816              0              0\n"
        "2      Dense        10           108,170        108,160\n"
        "total                            108,618        400,192"
    )


class Checked(HTMLParser):
    """Holds HTML to tags that are closed, and to no scripts, sheets or links; `text` is what a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert all(name == "style" and "url" not in value for name, value in attrs)
        # The page's own colours are readable in the dark as well.
        assert not any(re.search(r"#[0-9a-f]{3}|rgb|white|black", value) for _, value in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = '<script>alert("&")</script>'


def dataset(name="four points"):
    x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    return fg.datasets.Dataset(name, x, y, x_test=x, y_test=y, classes=3)


def test_what_a_notebook_shows():
    data = dataset()
    model = fg.Sequential([fg.Dense(5, "relu"), fg.Dense(3)], 4)
    trainer = fg.Trainer(model, optimizer=fg.SGD(0.125))
    history = trainer.fit(data, steps=4, batch_size=2, validation=(data.x_train, data.y_train))
    shown = {one: Checked(one._repr_html_()).text for one in (data, model, trainer)}
    assert {"four points, 3 classes", "x_train", "4x4", "float32", "0 to 1"} <= set(shown[data])
    assert {"Sequential, input 4", "Dense relu", "total", "43"} <= set(shown[model])
    assert {"Trainer", "SoftmaxCrossEntropy", "steps done", "4"} <= set(shown[trainer])
    assert "Sequential of 43 parameters, on cpu" in shown[trainer]
    text = Checked(history._repr_html_()).text
    assert {"History, ended by steps", "validation loss", "loss"} <= set(text)
    # What was measured nowhere has no column.
    none = fg.History([fg.Record(1, 0.5, 1.25)])
    assert Checked(none._repr_html_()).text == ["History", "step", "epoch", "loss", "1", "0.5", "1.25"]
    assert Checked(fg.History()._repr_html_()).text == ["History"]
    assert math.isnan(none.final.test_loss)


def test_text_from_elsewhere_is_escaped():
    html = dataset(HOSTILE)._repr_html_()
    assert "<script" not in html
    assert "".join(Checked(html).text).startswith(HOSTILE)


def test_a_long_table_is_cut_in_the_middle():
    rows = [(str(number),) for number in range(1000)]
    text = Checked(as_html("many", ("number",), rows, 1)).text
    assert len(text) == MOST_ROWS + 3
    assert (text[2], text[-1]) == ("0", "999")
    assert "…" in text
