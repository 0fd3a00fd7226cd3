"""Polygons give the label map back that they were made from."""

import json
from itertools import pairwise

import numpy as np
from hotcoco import mask as coco_mask

from longtail.training.polygons import as_coco, polygons_of


def labels() -> np.ndarray:
    """Blobs with holes and islands, down to single pixels and touching corners."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(0, 3, (5, 6)), np.ones((4, 4), dtype=int))
    fine = rng.random(coarse.shape) < 0.05
    coarse[6:14, 6:15] = 0
    coarse[8:12, 8:13] = 1
    coarse[9, 10] = 2
    return np.where(fine, 2, coarse)


def _inside(rings, height: int, width: int) -> np.ndarray:
    """Pixels whose centres lie in a polygon, by the even-odd rule."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for ring in rings:
        for (ax, ay), (bx, by) in pairwise(ring):
            if ay == by:
                continue
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return inside


def test_drawn_polygons_are_the_labels():
    wanted = labels()
    found = np.full(wanted.shape, -1)
    regions = polygons_of(wanted, "abc")
    for feature in regions["features"]:
        inside = _inside(feature["geometry"]["coordinates"], *wanted.shape)
        assert (found[inside] == -1).all()
        found[inside] = feature["properties"]["id"]
        assert feature["properties"]["class"] == "abc"[feature["properties"]["id"]]
    assert (found == wanted).all()
    assert any(len(feature["geometry"]["coordinates"]) > 1 for feature in regions["features"])


def test_coco_has_the_same_regions(tmp_path):
    wanted = labels()
    (tmp_path / "a.geojson").write_text(json.dumps(polygons_of(wanted, "abc")))
    found = as_coco({"a": tmp_path / "a.geojson"}, {"a": tmp_path / "a.png"}, "abc")
    (image,) = found["images"]
    assert (image["height"], image["width"]) == wanted.shape
    for annotation in found["annotations"]:
        (ring,) = annotation["segmentation"]
        points = np.array(ring).reshape(-1, 2)
        inside = _inside([points.tolist()], *wanted.shape)
        assert (wanted[inside] == annotation["category_id"]).all()
        x, y, w, h = annotation["bbox"]
        assert (points.min(0) == [x, y]).all() and np.allclose(points.max(0), [x + w, y + h])
        encoded = coco_mask.frPyObjects([ring], *wanted.shape)
        assert abs(coco_mask.area(encoded)[0] - inside.sum()) <= 0.5 * inside.sum() + 4
    assert (
        sum(
            _inside([np.array(a["segmentation"][0]).reshape(-1, 2).tolist()], *wanted.shape).sum()
            for a in found["annotations"]
        )
        == wanted.size
    )
