import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from longtail.errors import DataError
from longtail.metrics.results import Prediction
from longtail.reports.html import write_report
from longtail.reports.sections import Block, Section
from support.fake_runs import make_detection_results, make_results, write_run


class Page(HTMLParser):
    """Headings, sections and everything that a browser would load; refuses tags that do not close."""

    VOID = frozenset({"meta", "img", "br", "link", "path", "use", "rect", "image"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.sections: list[str] = []
        self.tasks: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [given[k] for k in ("src", "href", "xlink:href") if k in given]
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "section":
            self.sections.append(given["id"].split("-", 1)[1])
            self.tasks.append(given["id"].split("-", 1)[0])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check(path) -> Page:
    """The page is well-formed, loads nothing from elsewhere, and its plots are valid XML."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(target.startswith(("data:", "#")) for target in page.loads)
    assert {t[1:] for t in page.loads if t.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    for plot in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ElementTree.fromstring(plot)
        assert "nan" not in plot.lower().replace("nano", "")
    return page


def test_a_section_of_ones_own_comes_first(tmp_path):
    run = write_run(tmp_path / "run", make_results("baseline"))
    own = Section("own", "What I asked", "A lead.", [Block("heading", "Look here")])
    page = Page(write_report([run], tmp_path / "report.html", own).read_text())
    assert page.sections[:2] == ["own", "summary"]


def test_two_runs_with_everything(tmp_path):
    runs = [
        write_run(tmp_path / "a", make_results("baseline", 51, absent=2), pictures=2),
        write_run(tmp_path / "b", make_results("medoe", 51, experts=3, tail_help=0.1, absent=2), pictures=2),
    ]
    path = write_report(runs, tmp_path / "out" / "page.html")
    page = check(path)
    assert page.sections == [
        "summary",
        "groups",
        "frequency",
        "classes",
        "confusion",
        "advice",
        "pictures",
        "experts",
        "uniform",
        "table",
        "provenance",
    ]
    text = path.read_text()
    assert text.count("<svg") == 6
    assert text.count('src="data:image/png') == 2 * 4 and text.count('src="data:image/jpeg') == 2
    assert path.stat().st_size < 1_000_000
    encoded = re.search(r"data:text/csv[^,]*,([^\"]+)", text)[1]
    assert base64.b64decode(encoded).decode().startswith("id,class,group,pixels,images,Baseline IoU")


@pytest.mark.parametrize("num_classes", [2, 11, 150, 847])
def test_any_number_of_classes(tmp_path, num_classes):
    runs = [write_run(tmp_path / m, make_results(m, num_classes)) for m in ("baseline", "medoe")]
    page = check(write_report(runs, tmp_path))
    assert ("confusion" in page.sections) and "pictures" not in page.sections
    assert (tmp_path / "report.html").is_file()


def test_one_run_without_frequency(tmp_path):
    path = write_report(
        [write_run(tmp_path / "a", make_results("medoe", 7, with_frequency=False))], tmp_path / "r.html"
    )
    page = check(path)
    assert "frequency" in page.sections  # from the evaluated pixels, and it says so
    assert "evaluated pixels" in path.read_text()


def test_bare_results(tmp_path):
    results = make_results("medoe", 4, with_frequency=False)
    results.predictions = {"medoe": Prediction({"mIoU": 0.5})}
    page = check(write_report([write_run(tmp_path / "a", results)], tmp_path))
    assert page.sections == ["summary", "groups", "table", "provenance"]


def test_everything_undefined(tmp_path):
    results = make_results("medoe", 5, experts=2)
    for prediction in results.predictions.values():
        prediction.overall = dict.fromkeys(prediction.overall)
        prediction.groups = {g: dict.fromkeys(v) for g, v in prediction.groups.items()}
        prediction.per_class = {m: [None] * 5 for m in prediction.per_class}
        prediction.extra["confusion"] = [[0] * 5] * 5
    runs = [write_run(tmp_path / "a", results), write_run(tmp_path / "b", results)]
    check(write_report(runs, tmp_path))


def test_runs_of_both_tasks_share_a_page(tmp_path):
    pixels = [write_run(tmp_path / m, make_results(m, 11), pictures=1) for m in ("baseline", "medoe")]
    boxes = [write_run(tmp_path / m, make_detection_results(m, g)) for m, g in (("cascade", 0.0), ("mec", 0.02))]
    path = write_report([boxes[0], *pixels, boxes[1]], tmp_path)
    page, text = check(path), path.read_text()
    assert page.sections.count("summary") == 2 and list(dict.fromkeys(page.tasks)) == ["detection", "segmentation"]
    assert {"detection", "segmentation"} <= set(page.ids)
    assert "<title>MEC against Cascade · MEDOE against Baseline" in text
    assert text.count("<h1>") == 2 and text.count("data:text/csv") == 2


def test_detection(tmp_path):
    runs = [write_run(tmp_path / m, make_detection_results(m, g)) for m, g in (("cascade", 0.0), ("mec", 0.02))]
    path = write_report(runs, tmp_path)
    page = check(path)
    assert page.sections == ["summary", "groups", "frequency", "classes", "advice", "experts", "table", "provenance"]
    assert ">Stages</h2>" in path.read_text()


def test_names_cannot_break_the_page(tmp_path):
    results = make_results("medoe", 6)
    results.class_names[0] = "<script>alert('x')</script>"
    results.class_names[1] = '$x_1$ & "quoted"'
    results.class_names[2] = "Straße 漢字"
    results.frequency["class_names"] = results.class_names
    results.data["name"] = "</section><b>"
    path = write_report([write_run(tmp_path / "a", results)], tmp_path)
    check(path)
    assert "<script>alert" not in path.read_text()


def test_equal_results_give_an_equal_page(tmp_path):
    run = write_run(tmp_path / "a", make_results("medoe", 9), pictures=1)
    first = write_report([run], tmp_path / "1.html").read_bytes()
    assert write_report([run], tmp_path / "2.html").read_bytes() == first


def test_warns_of_different_data_and_borrowed_groups(tmp_path):
    first, second = make_results("baseline", 5), make_results("medoe", 5)
    second.data["fingerprint"] = "other"
    second.settings["groups_from"] = "the labels scored (no training frequency given)"
    runs = [write_run(tmp_path / "a", first), write_run(tmp_path / "b", second)]
    text = write_report(runs, tmp_path).read_text()
    assert "differ in name, size or time of change" in text and "Groups come from the evaluated labels" in text


def test_pictures_are_coloured_downscaled_and_paired(tmp_path):
    baseline = write_run(tmp_path / "a", make_results("baseline", 8), pictures=1)
    method = write_run(tmp_path / "b", make_results("medoe", 8, experts=2), pictures=2)
    text = write_report([baseline, method], tmp_path).read_text()
    rows = re.findall(r'<div class="strip"[^>]*>(.*?)<figcaption>', text, flags=re.DOTALL)
    headings = [re.findall(r'class="heading">([^<]+)<', row) for row in rows]
    assert headings == [
        ["Input", "Truth", "Baseline", "MEDOE", "Oracle"],
        ["Input", "Truth", "MEDOE", "Oracle"],
    ]
    import io

    truth = re.findall(r'src="data:image/png;base64,([^"]+)" alt="scene_0: Truth"', text)[0]
    shown = Image.open(io.BytesIO(base64.b64decode(truth)))
    assert max(shown.size) == 420
    with Image.open(method / "pictures" / "scene_0.truth.png") as stored:
        stored.thumbnail((420, 420), Image.Resampling.NEAREST)
        labels = np.asarray(stored)
    palette = np.array(json.loads((method / "pictures" / "index.json").read_text())["palette"])
    colours = np.asarray(shown.convert("RGB"))
    assert (colours[labels != 255] == palette[labels[labels != 255]]).all()
    assert (colours[labels == 255] == [24, 26, 30]).all()


@pytest.mark.parametrize(
    "index",
    ["{", "[]", '{"images": ["../../secret"], "palette": []}', '{"images": ["scene_0"], "palette": [[1, 2, 3]]}'],
)
def test_refuses_altered_pictures(tmp_path, index):
    run = write_run(tmp_path / "a", make_results("medoe", 5), pictures=1)
    (run / "pictures" / "index.json").write_text(index)
    with pytest.raises(DataError, match=r"index\.json"):
        write_report([run], tmp_path)
