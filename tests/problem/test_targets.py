"""Targets: every encoding and every accuracy by hand."""

import numpy as np
import pytest

from convexsnn.errors import ShapeError
from convexsnn.problem.targets import target_code

MARGIN = ("hinge", "squared_hinge", "logistic")


def encode(targets, loss, task="classification", steps=None):
    targets = np.asarray(targets)
    code = target_code(targets, n=len(targets), steps=steps, loss=loss, task=task)
    return code, code.values("targets", targets, len(targets)).tolist()


@pytest.mark.parametrize("loss", MARGIN)
@pytest.mark.parametrize("labels", [[-1, 1, 1], [0, 1, 1], [False, True, True], [-1.0, 1.0, 1.0]])
def test_binary_labels_give_one_output_of_minus_and_plus_one(loss, labels):
    assert encode(labels, loss)[1] == [[-1.0], [1.0], [1.0]]


@pytest.mark.parametrize("loss", MARGIN)
def test_classes_are_one_against_the_rest(loss):
    assert encode([2, 0, 1], loss)[1] == [[-1, -1, 1], [1, -1, -1], [-1, 1, -1]]


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_classes_are_one_hot(loss):
    assert encode([2, 0, 1], loss)[1] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert encode([0, 1], loss)[1] == [[1, 0], [0, 1]]


def test_minus_and_plus_one_of_softmax_are_two_classes_and_of_squared_one_number():
    assert encode([-1, 1], "softmax")[1] == [[1, 0], [0, 1]]
    assert encode([-1, 1], "squared")[1] == [[-1], [1]]


def test_a_class_that_is_missing_in_training_keeps_its_output():
    assert encode([0, 2], "softmax")[1] == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("labels", [[0, 0], [-1, -1]])
def test_one_label_alone_is_still_one_of_two(labels):
    assert encode(labels, "hinge")[1] == [[-1], [-1]]


def test_regression_passes_through():
    assert encode([0.5, -2.0], "squared", "regression")[1] == [[0.5], [-2.0]]
    assert encode([[0.5, 1], [2, 3]], "squared", "regression")[1] == [[0.5, 1], [2, 3]]
    by_step = np.arange(12.0).reshape(2, 3, 2)
    assert encode(by_step, "squared", "regression", steps=3)[1] == by_step.reshape(6, 2).tolist()


def test_every_step_gives_rows_in_sample_order():
    assert encode([[0, 1], [1, 1]], "hinge", steps=2)[1] == [[-1], [1], [1], [1]]


def test_heads_stand_side_by_side():
    # digit in 0..2 and carry in 0..1, at two steps of two samples
    targets = [[[2, 0], [1, 1]], [[0, 1], [0, 0]]]
    rows = [[-1, -1, 1, -1], [-1, 1, -1, 1], [1, -1, -1, 1], [1, -1, -1, -1]]
    assert encode(targets, "hinge", steps=2)[1] == rows
    assert encode(targets, "squared", steps=2)[1][0] == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("loss", "targets", "outputs", "shares"),
    [
        ("hinge", [-1, 1, 1, -1], [[-3], [0.1], [-0.1], [2]], [0.5]),
        ("hinge", [0, 1, 1, 0], [[-3], [0.1], [-0.1], [2]], [0.5]),
        ("hinge", [-1, 1], [[0.0], [0.0]], [0.5]),  # exactly 0 counts as the lower label
        ("softmax", [0, 1, 2, 2], [[1, 0, 0], [0, 1, 0], [0, 2, 1], [0, 0, 9]], [0.75]),
        ("squared", [0, 1], [[0.6, 0.4], [0.6, 0.4]], [0.5]),
        ("hinge", [[2, 0], [0, 1]], [[-1, -1, 0.5, -2], [-1, 3, -1, 4]], [0.5, 1.0]),
    ],
)
def test_accuracies(loss, targets, outputs, shares):
    code, _ = encode(targets, loss)
    assert code.accuracies(np.array(outputs, float), "targets", np.array(targets)) == shares


def test_accuracies_over_steps_and_of_regression():
    code, _ = encode([[0, 1, 1]], "hinge", steps=3)
    assert code.accuracies(np.array([[[-1.0], [1.0], [-1.0]]]), "targets", [[0, 1, 1]]) == [2 / 3]
    code, _ = encode([0.5], "squared", "regression")
    assert code.accuracies(np.array([[0.5]]), "targets", [0.5]) is None


@pytest.mark.parametrize(
    ("targets", "loss", "task", "told"),
    [
        ([0, 1.5], "hinge", "classification", "label 1.5"),
        ([-2, 1], "hinge", "classification", "label -2"),
        ([-1, 2], "softmax", "classification", "label -1"),
        ([0, 10_000], "softmax", "classification", "label 10000"),
        ([0.0, np.nan], "hinge", "classification", "targets: nan at index (1,)"),
        (["a", "b"], "hinge", "classification", "targets: expected real numbers"),
        ([[0, 1], [1, 0]], "softmax", "classification", "softmax takes one label"),
        ([[[0]], [[1]]], "hinge", "classification", "targets: expected (n=2"),
        ([0.1, 0.2], "hinge", "regression", "loss: 'hinge' is for classification"),
        ([0.1, np.inf], "squared", "regression", "targets: inf at index (1,)"),
        (np.empty((2, 0)), "squared", "regression", "targets: empty"),
    ],
)
def test_what_is_no_target_is_named(targets, loss, task, told):
    with pytest.raises(ShapeError, match=r"^(targets|loss): ") as caught:
        encode(targets, loss, task)
    assert told in str(caught.value)


def test_a_wrong_number_of_rows_or_steps_is_named():
    with pytest.raises(ShapeError, match=r"targets: expected \(n=3,\), got \(2,\)"):
        target_code([0, 1], n=3, steps=None, loss="hinge", task="classification")
    with pytest.raises(ShapeError, match=r"targets: expected \(n=2, T=3\), got \(2, 2\)"):
        target_code([[0, 1], [0, 1]], n=2, steps=3, loss="hinge", task="classification")


def test_ragged_targets_are_named():
    with pytest.raises(ShapeError, match="targets"):
        target_code([[0, 1], [1]], n=2, steps=None, loss="hinge", task="classification")


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ([0, 1], [2], r"test_targets: label 2 in row 0; expected 0..1"),
        ([-1, 1], [0], r"test_targets: label 0 in row 0; expected -1 or \+1"),
        ([0, 1, 2], [0, 1.5], r"test_targets: label 1.5 in row 1; expected 0..2"),
        ([[0, 1], [1, 0]], [[0], [1]], "test_targets: expected"),
        ([[0, 1], [1, 0]], [0, 1], "test_targets: expected 2 columns, got 1"),
    ],
)
def test_test_targets_must_fit_the_training_targets(train, test, told):
    code, _ = encode(train, "hinge")
    with pytest.raises(ShapeError, match=told):
        code.values("test_targets", test, len(test))
