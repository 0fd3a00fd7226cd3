"""What differs between segmentation and detection."""

from importlib import import_module
from typing import TYPE_CHECKING

from longtail.errors import ConfigError
from longtail.settings import nearest

if TYPE_CHECKING:
    from longtail.training.tasks.data_task import DataTask

#: Name of a task -> its class; another task adds a line and a file.
TASKS = {
    "segmentation": "longtail.training.tasks.segmentation:SegmentationTask",
    "detection": "longtail.training.tasks.detection:DetectionTask",
}


def task_class(name: str) -> "type[DataTask]":
    """Class of a task; imports the models of that task alone.

    Raises:
        ConfigError: There is no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}", fix=f"{nearest(name, TASKS)}choose one of {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(module), attribute)
