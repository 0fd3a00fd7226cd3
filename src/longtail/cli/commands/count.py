"""Count how often each class occurs, and put the classes into groups."""

from pathlib import Path
from typing import Any, Literal

from longtail.cli.parser import Namespace, Parser

NAME = "count"
SUMMARY = "count pixels, objects and images of every class"
ORDER = 10


def add_arguments(parser: Parser) -> None:
    """Arguments of the command."""
    from longtail.training.segmentation_config import GroupsConfig

    parser.add_argument("data", type=str, help="folder, cityscapes:ROOT, coco:ROOT …, or an annotation file (.json)")
    parser.add_argument(
        "--split", type=str | None, default=None, help="split to count [train]; all, of data without splits"
    )
    parser.add_argument("--out", type=str | None, default=None, help="JSON file to write the counts to")
    parser.add_argument(
        "--plot", type=str | None, default=None, help="figure to draw the distribution in (svg, png, pdf)"
    )
    parser.add_argument("--options", type=dict, default={}, help="other arguments of the data set")
    parser.add_argument(
        "--images", action="store_true", help="also look at the photographs: range, mean and deviation of every band"
    )
    parser.add_argument(
        "--bands", type=int | tuple[int, ...] | None, default=None, help="bands of the photographs, see data.bands"
    )
    parser.add_argument("--pages", type=Literal["refuse", "bands"], default="refuse", help="see data.pages")
    parser.add_argument("--workers", type=int | None, default=None, help="processes; all cores when not given")
    parser.add_argument("--rows", type=int, default=60, help="classes to print, most frequent first; 0 for all")
    parser.add_argument(
        "--edges", type=tuple[int, ...], default=(10, 100), help="detection: instances that part the groups"
    )
    parser.add_class_arguments(GroupsConfig, "groups")


def run(arguments: Namespace) -> int:
    """Count and print."""
    from rich.console import Console

    from longtail.files import saving
    from longtail.frequency.imbalance import imbalance_summary
    from longtail.training.console import table

    frequency, groups, unit, statistics = _counted(arguments)
    share, group_of = frequency.share(unit), groups.group_of
    console = Console(highlight=False)
    order = share.argsort()[::-1]
    shown = order[: arguments.rows or None]
    console.print(
        table(
            "",
            ["class", "group", "share %", unit, "images"],
            [
                (
                    frequency.class_names[c],
                    groups.names[group_of[c]],
                    f"{100 * share[c]:.4f}",
                    f"{frequency.counts(unit)[c]:,}",
                    f"{frequency.images[c]:,}",
                )
                for c in shown
            ],
        )
    )
    if len(shown) < len(order):
        console.print(f"… and {len(order) - len(shown)} rarer classes (--rows 0 prints all)")
    console.print()
    by_group = [
        (name, len(members), f"{100 * share[list(members)].sum():.3f}")
        for name, members in zip(groups.names, groups.members, strict=True)
    ]
    console.print(table("", ["group", "classes", "share %"], by_group))
    console.print()
    facts = imbalance_summary(frequency, unit).to_dict()
    console.print(table("", ["imbalance", ""], [(k.replace("_", " "), _number(v)) for k, v in facts.items()]))
    if arguments.out:
        with saving(arguments.out):
            Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
            frequency.to_json(arguments.out)
        console.print(f"\nwritten to {arguments.out}")
    if statistics is not None:
        _print_bands(console, statistics, unit, arguments.bands)
    if arguments.plot:
        from longtail.reports.distribution import draw_counts

        with saving(arguments.plot):
            console.print(f"\ndrawn in {draw_counts(frequency, groups, unit, arguments.plot)}")
    return 0


def _counted(arguments: Namespace) -> tuple[Any, Any, Literal["pixels", "instances"], Any]:
    """Frequency, groups, what is counted (pixels of labels, or instances of annotations) and what the photographs hold."""
    from rich.console import Console

    from longtail.datasets import open_dataset
    from longtail.datasets.base import DetectionDataset, SegmentationDataset
    from longtail.datasets.open import data_options
    from longtail.datasets.pairs import ImageLabelPairs
    from longtail.datasets.photographs import PhotoFormat
    from longtail.settings import from_dict

    options = data_options(arguments.options)
    split = arguments.split or "train"
    if arguments.data.endswith(".json"):
        dataset: Any = _annotation_file(arguments, split, options)
    else:
        dataset = open_dataset(arguments.data, split, labels_only=True, **options)
    statistics = _photo_statistics(arguments, dataset) if arguments.images else None
    both = isinstance(dataset, SegmentationDataset) and isinstance(dataset, DetectionDataset)
    if isinstance(dataset, DetectionDataset) and (not both or dataset.task == "detection"):  # type: ignore[attr-defined]
        from longtail.frequency.count_instances import count_instances

        if dataset.note:
            Console(highlight=False).print(f"{dataset.note}\n")
        frequency = count_instances(dataset)
        return frequency, _groups_of_instances(arguments, frequency), "instances", statistics
    from longtail.cli.parser import say_warning
    from longtail.frequency.absent_classes import absent_classes
    from longtail.frequency.count_pixels import count_pixels
    from longtail.training.groups import frequency_cache, pixel_groups
    from longtail.training.segmentation_config import GroupsConfig

    frequency = count_pixels(dataset, workers=arguments.workers, cache=frequency_cache())
    as_stored = dataset.label_format.table is None
    if as_stored and (doubt := absent_classes(frequency, dataset.ignore_index, arguments.data)):
        say_warning(doubt)
    if isinstance(dataset, ImageLabelPairs):
        if arguments.bands is not None:
            dataset.photos = PhotoFormat(arguments.bands, (0, 1), arguments.pages)  # sizes alone are compared
        if statistics is None:
            dataset.check_images()
        if dataset.note:
            Console(highlight=False).print(f"{dataset.note}; --split all counts both\n")
    return frequency, pixel_groups(from_dict(GroupsConfig, arguments.groups.as_dict()), frequency), "pixels", statistics


def _photo_statistics(arguments: Namespace, dataset: Any) -> Any:
    """What the photographs of a data set hold.

    Raises:
        ConfigError: It has no files of photographs.
    """
    from longtail.datasets.photo_statistics import photo_statistics
    from longtail.datasets.photographs import PhotoFormat
    from longtail.errors import ConfigError

    files = getattr(dataset, "image_files", None)
    if files is None:
        raise ConfigError(f"{arguments.data} has no files of photographs", fix="leave --images out")
    return photo_statistics(files, PhotoFormat(arguments.bands, pages=arguments.pages))


def _print_bands(console: Any, statistics: Any, unit: str, bands: int | tuple[int, ...] | None) -> None:
    """A row for every band, and the settings to train with."""
    from longtail.training.console import table

    value_range = statistics.value_range
    rows = zip(statistics.low, statistics.high, statistics.mean, statistics.std, strict=True)
    shown = [(str(band), *(f"{value:,.6g}" for value in row)) for band, row in enumerate(rows)]
    console.print()
    console.print(table("", [f"band ({statistics.kind})", "lowest", "highest", "mean", "std"], shown))
    if value_range[0] == value_range[1]:
        return
    taken = len(statistics.mean) if bands is None else list(bands) if isinstance(bands, tuple) else bands
    mean, std = ([round(float(v), 5) for v in values] for values in statistics.scaled(value_range))
    ranged = "" if statistics.kind == "uint8" else f" --data.value_range '[{value_range[0]:g}, {value_range[1]:g}]'"
    normalise = f"--augmentation.mean '{mean}' --augmentation.std '{std}'"
    console.print(f"\nto train with them: --data.bands {taken}{ranged} {normalise}", soft_wrap=True)


def _annotation_file(arguments: Namespace, split: str, options: dict[str, Any]) -> Any:
    """The data set of one annotation file, without its images."""
    from longtail.datasets import open_dataset
    from longtail.errors import ConfigError

    if arguments.split and "{split}" not in arguments.data and not {"val_share", "split_by"} & options.keys():
        raise ConfigError(
            f"--split {arguments.split} of {arguments.data}, which is counted whole",
            fix="leave it out, write {split} into the path, or part the file with --options '{val_share: 0.2}'",
        )
    file = Path(arguments.data.replace("{split}", split))
    options = {"check_files": False, "masks": False, **options}
    return open_dataset(f"coco:{file.parent}", split, annotations=file.name, **options)


def _groups_of_instances(arguments: Namespace, frequency: Any) -> Any:
    """Groups of the classes, rarest first; says which edges would leave none empty."""
    from longtail.cli.parser import say_warning
    from longtail.frequency.edges import advice_on_edges, without_objects
    from longtail.training.detection_config import DetectionGroupsConfig
    from longtail.training.groups import object_groups

    given = arguments.groups.as_dict()
    by: Any = "instances" if given["by"] == "share" else given["by"]
    wanted = {name: tuple(given[name]) for name in ("sizes", "masses")}
    settings = DetectionGroupsConfig(by=by, edges=tuple(arguments.edges), members=given["members"], **wanted)
    groups, counts = object_groups(settings, frequency), frequency.counts("instances")
    if empty := without_objects(groups, counts):
        advice = advice_on_edges(counts, groups.num_groups)
        say_warning(f"no class of {', '.join(empty)} has an object: to train experts, {advice}")
    return groups


def _number(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
