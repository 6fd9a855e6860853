"""The page of ``samestep parity``: whole, alone in its file, and true to the comparison."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click import testing

from samestep.checkpoints.replacing import replace_text
from samestep.command_line import page as rendering
from samestep.command_line.curves import COLOURS, picture
from samestep.command_line.main import commands
from samestep.command_line.pairs.account import Account
from samestep.command_line.pairs.pair_report import pair_report
from samestep.command_line.report import Curve
from samestep.parity import compared, subject

SINGLE = {"meta", "br", "wbr"}


def page(account):
    return rendering.page(pair_report(account))


class Reader(HTMLParser):
    """Notes elements and text, and that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in SINGLE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def said(self):
        return re.sub(r"\s+", " ", "".join(self.text))

    def having(self, tag, kind):
        return [a for t, a in self.elements if t == tag and a.get("class") == kind]


@pytest.fixture(scope="module")
def differ():
    return compared(subject("samestep:Adan", like="optax"), subject("samestep:Adan"))


def test_the_page_says_what_differs_where_and_how_to_see_it_again(differ):
    words = ["samestep", "parity", "samestep:Adan", "--set", "a.like='optax'"]
    said = Reader(page(Account(differ, words))).said
    assert (
        "samestep:Adan (a) and samestep:Adan (b) do not take the same steps, for 2 reasons." in said
    )
    assert "weights the gradient difference by 1 - b2 = 0.08" in said
    assert "weights the gradient difference by b2 = 0.92" in said
    assert "quirks=('difference by 1 - beta2',)" in said
    assert f"step {differ.first[0]}in {differ.first[1]}" in said.replace(" in ", "in ")
    assert "(0.98, 0.92, 0.99)" in said and "in float64" in said
    assert "--set 'a.like=" in said
    assert "numpy" in said and "Python" in said


def test_there_is_a_curve_for_every_parameter_and_every_slot(differ):
    account = Account(differ)
    read = Reader(page(account))
    names = [curve.name for curve in (*account.parameters, *account.slots)]
    assert {"kernel", "matrix", "bias", "scalar", "m", "v", "n"} <= set(names)
    assert len(read.having("polyline", "curve")) == len(names)
    for curve in (*account.parameters, *account.slots):
        last = f"{curve.name}, step {differ.steps}: {curve.values[-1]:.2g}"
        assert last in read.said


def test_a_curve_is_on_a_log_scale_and_the_first_parting_is_marked():
    values = [0.0, 1e-14, 1e-12, 1e-8, 1e-6, 1e-4]
    bounds = [1e-10] * len(values)
    flat = Curve("flat", [0.0] + [1e-14] * 5, None)
    drawn = Reader(picture("title", [Curve("rising", values, 3), flat], bounds))
    lines = drawn.having("polyline", "curve")
    rising = next(line["points"] for line in lines if line["stroke"] == "var(--c0)")
    points = [tuple(map(float, point.split(","))) for point in rising.split()]
    assert len(points) == len(values) - 1
    per_decade = (points[0][1] - points[-1][1]) / 10
    for (_, y), value in zip(points, values[1:], strict=True):
        assert points[0][1] - y == pytest.approx(per_decade * math.log10(value / 1e-14), abs=0.2)
    (circle,) = drawn.having("circle", "parting")
    assert (float(circle["cx"]), float(circle["cy"])) == points[2]
    assert "they part at step 3" in drawn.said
    bound = drawn.having("polyline", "bound")[0]["points"].split()[0]
    assert points[1][1] > float(bound.split(",")[1]) > points[2][1]


def test_what_never_parts_has_no_mark_and_what_is_equal_lies_on_the_ground():
    drawn = Reader(picture("title", [Curve("same", [0.0] * 4, None)], [1e-10] * 4))
    assert drawn.having("circle", "parting") == []
    (line,) = drawn.having("polyline", "curve")
    assert len({point.split(",")[1] for point in line["points"].split()}) == 1
    assert "identical" in drawn.said


def test_an_infinite_difference_is_drawn_at_the_top():
    drawn = Reader(picture("title", [Curve("x", [0.0, 1e-3, math.inf], 1)], [1e-10] * 3))
    (line,) = drawn.having("polyline", "curve")
    first, last = (float(point.split(",")[1]) for point in line["points"].split())
    assert 0 < last < first


@pytest.mark.parametrize("name", ["differ", "agree", "unexplained"])
def test_a_page_needs_nothing_but_itself_and_shows_light_and_dark(name, differ, tmp_path):
    found = {
        "differ": differ,
        "agree": replace(differ, verdict="agree", first=None, reasons=[], findings=None),
        "unexplained": replace(differ, reasons=[], findings=None),
    }[name]
    text = page(Account(found, ["samestep"]))
    read = Reader(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "video", "audio", "base"}
    assert not any({"src", "href", "onclick", "onload"} & set(given) for _, given in read.elements)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert read.having("span", "badge") and name in read.said
    for place in range(len(COLOURS)):
        assert len(re.findall(rf"--c{place}: #[0-9a-f]{{6}};", text)) == 2


def test_names_are_escaped():
    odd = "<script>alert(1)</script> & \"'"
    shapes = {odd: (3, 4), "plain": (5,)}
    a = replace(subject("samestep:SGD", lr=0.5), name=f"{odd}:SGD")
    found = compared(a, subject("samestep:SGD", lr=0.25), shapes=shapes)
    text = page(Account(found, ["samestep", "parity", odd]))
    read = Reader(text)
    assert "<script" not in text
    assert "script" not in {tag for tag, _ in read.elements}
    assert odd in read.said


def test_many_parameters_are_all_listed_and_the_first_ones_coloured():
    shapes = {f"layers.{place}.weight": (4, 3) for place in range(12)}
    sides = (subject("samestep:SGD", lr=lr) for lr in (0.5, 0.25))
    found = compared(*sides, shapes=shapes)
    read = Reader(page(Account(found)))
    coloured = {a["stroke"] for a in read.having("polyline", "curve")}
    assert coloured == {f"var(--c{place})" for place in range(len(COLOURS))}
    assert len(read.having("polyline", "rest")) == len(shapes) - len(COLOURS)
    assert all(path in read.said for path in shapes)


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        replace_text(out, "half\ud800")
    assert out.read_text() == "before" and [*tmp_path.iterdir()] == [out]
    replace_text(out, "whole")
    assert out.read_text() == "whole" and [*tmp_path.iterdir()] == [out]


def test_the_command_writes_the_page_and_says_where(tmp_path):
    out = tmp_path / "page.html"
    words = ["parity", "samestep:SGD", "samestep:SGD", "--html", str(out)]
    words += ["--set", "a.momentum=0.5", "--set", "b.momentum=0.9"]
    done = testing.CliRunner().invoke(commands(), words)
    assert done.exit_code == 1
    assert "samestep:SGD (a) and samestep:SGD (b)" in Reader(out.read_text()).said
    assert str(out) in done.stderr and "differ" in done.stdout


def test_a_page_that_cannot_be_written_is_one_sentence_and_the_exit_code_2(tmp_path):
    folder = tmp_path / "file"
    folder.write_text("")
    words = ["parity", "samestep:SGD", "samestep:Lion", "--html", str(folder / "page.html")]
    done = testing.CliRunner().invoke(commands(), words)
    assert done.exit_code == 2 and "there is no folder" in done.stderr
