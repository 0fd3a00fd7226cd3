"""Label maps as polygons: GeoJSON for one image, COCO for many."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from jaxtyping import Integer


def polygons_of(labels: Integer[np.ndarray, "h w"], class_names: Sequence[str]) -> dict[str, Any]:
    """Connected regions of a label map as a GeoJSON FeatureCollection, in pixels: x to the right, y down.

    A pixel belongs to a region where its centre lies in the polygon, so that drawing the polygons gives the labels back.

    Args:
        labels: Class ids.
        class_names: Name of every class.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"class": class_names[label], "id": label},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for label in np.unique(labels).tolist()
        if label < len(class_names)
        for rings in _regions(labels == label)
    ]
    height, width = labels.shape
    return {"type": "FeatureCollection", "height": height, "width": width, "features": features}


def _regions(mask: np.ndarray) -> Iterator[list[list[list[float]]]]:
    """Rings of every region: the outer one, then its holes; each closed."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    framed = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.float64)
    parts: Any = contour_generator(z=framed, fill_type="OuterOffset").filled(0.5, np.inf)
    points, offsets = parts
    shift = np.array([left, top]) - 0.5  # the frame is one pixel wide, and a pixel's centre is at one half
    for region, ends in zip(points, offsets, strict=True):
        rings = np.split(np.asarray(region) + shift, np.asarray(ends)[1:-1].astype(int))
        yield [ring.round(2).tolist() for ring in rings]


def as_coco(files: Mapping[str, Path], images: Mapping[str, Path], class_names: Sequence[str]) -> dict[str, Any]:
    """Polygons of many images as a COCO data set; holes are joined to their outer rings by a slit without width.

    Args:
        files: Name -> GeoJSON file of an image, as ``polygons_of`` gives it.
        images: Name -> file of the image.
        class_names: Name of every class; its id is its number.
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for identity, (name, path) in enumerate(files.items(), start=1):
        content = json.loads(path.read_text())
        size = {"height": content["height"], "width": content["width"]}
        records.append({"id": identity, "file_name": str(images[name]), **size})
        for feature in content["features"]:
            outer, *holes = feature["geometry"]["coordinates"]
            ring = [*outer, *(point for hole in holes for point in (*hole, outer[0]))]
            points = np.array(outer)
            low, high = points.min(axis=0), points.max(axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": identity,
                    "category_id": feature["properties"]["id"],
                    "segmentation": [[value for point in ring for value in point]],
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": _area(outer) - sum(map(_area, holes)),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names)]
    return {"images": records, "annotations": annotations, "categories": categories}


def _area(ring: Sequence[Sequence[float]]) -> float:
    x, y = np.array(ring).T
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
