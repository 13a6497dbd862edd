"""What a refusal prints: one line, whatever a file holds."""

import numpy as np
import pytest

from convexsnn.errors import LONGEST, NotInstalled, ProblemFileError, ShapeError, VerificationError, one_line
from convexsnn.fields import read_table
from convexsnn.networks import Layer
from convexsnn.networks.neurons import NEURONS

HIDDEN = ["a\nb: accepted", "a\r\nb", "\x1b[2J", "\u202eb", "\0", "\ud800", "\u2028", "a\tb"]


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize("error", [ProblemFileError, ShapeError, VerificationError, NotInstalled])
def test_a_message_is_one_line_that_prints(error, text):
    told = str(error(f"name: {text}"))
    assert told.isprintable() and told.startswith("name: ") and str(error(told)) == told


def test_a_plain_message_is_as_it_is():
    for text in ("λ: expected a number", "", "two  spaces", "x" * LONGEST):
        assert one_line(text) == text


def test_of_a_long_message_the_middle_is_left_out():
    told = str(ShapeError(f"name: got {'y' * 100_000}; did you mean 'x'?"))
    assert len(told) <= LONGEST and told.startswith("name: got y") and told.endswith("did you mean 'x'?")


@pytest.mark.parametrize("text", HIDDEN)
def test_an_unknown_key_prints(text):
    with pytest.raises(ProblemFileError) as caught:
        read_table("solver", {text: 1}, {})
    assert str(caught.value).isprintable()


def test_an_array_in_a_message_is_one_line():
    for value in (np.ones((3, 2)), np.ones(100) * 7):
        with pytest.raises(ShapeError) as caught:
            Layer(np.ones((2, 2)), NEURONS["lif"](threshold=value))
        assert "threshold" in str(caught.value) and str(caught.value).isprintable()
