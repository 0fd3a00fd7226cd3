"""Annotations are not checked while a graph is exported: its sizes are symbols, which are no integers."""

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _unchecked():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
