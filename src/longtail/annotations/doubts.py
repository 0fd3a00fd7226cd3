"""What the numbers of annotations betray: boxes that were written in another form than COCO's."""

import numpy as np

from longtail.annotations.coco_file import CocoFile

_ENOUGH = 3  # boxes before anything is said
_MANY = 0.5  # share of the boxes that leave their image


def box_doubts(file: CocoFile) -> list[str]:
    """Sentences on boxes without an area, and on those that look normalised, or like two corners."""
    flat = np.asarray((file.boxes[:, 2:] <= file.boxes[:, :2]).any(axis=1))
    said = []
    if flat.any():
        said = [
            f"{flat.sum()} of {len(flat)} boxes of {file.path.name} have no area, annotation {file.ids[flat][0]} the first: "
            "they are not trained on, and in scoring no detection finds them"
        ]
    return said + _forms_of_boxes(file)


def _forms_of_boxes(file: CocoFile) -> list[str]:
    sizes = [file.size(index) for index in range(len(file.images))]
    known = np.array([sizes[i] is not None for i in file.image_index], dtype=bool)
    if known.sum() < _ENOUGH:
        return []
    limits = np.array([sizes[i][::-1] for i in file.image_index[known]], dtype=np.float64)
    boxes = file.boxes[known]
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)  # as the file has them
    if (np.abs(corners) <= 1).all() and (limits > 16).all():
        return [
            f"all boxes of {file.path.name} lie in [0, 1], in images of {limits.max():g} pixels: normalised boxes have to "
            "be multiplied by the size of their image"
        ]
    leaves = (boxes[:, 2:] > limits + 1).any(axis=1)
    as_corners = (corners[:, 2:] >= corners[:, :2]).all() and (corners[:, 2:] <= limits + 1).all()
    if as_corners and leaves.mean() >= _MANY:
        return [
            f"{leaves.sum()} of {len(leaves)} boxes of {file.path.name} leave their image, and none would as "
            "[x1, y1, x2, y2]: COCO's boxes are [x, y, width, height]"
        ]
    return []
