"""The decision trees of a unit on data as they come."""

from convexsnn.distinct import distinct_samples
from convexsnn.pricing.decisions import decisions_on


def unit_decisions(inputs, spec, definition):
    """Return the trees of a unit for all values of its grids, on the distinct samples of `inputs`."""
    return decisions_on(distinct_samples(inputs).samples, spec, definition)
