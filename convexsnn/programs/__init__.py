"""Explicit convex programs; nothing here knows what a neuron is."""

from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.l1 import L1Program
from convexsnn.programs.layout import FORMS, Layout, Place
from convexsnn.programs.loss import Loss
from convexsnn.programs.losses import LOSSES, get_loss, register_loss
from convexsnn.programs.penalties import L1, PENALTIES, Group, Penalty, get_penalty, register_penalty
from convexsnn.programs.point import Certificate, Point, relative_gap
from convexsnn.programs.presolve import Presolved
from convexsnn.programs.program import Block, Program
from convexsnn.programs.qp_form import QPForm

AnyProgram = L1Program | Block  # every program that a solver can take

__all__ = [
    "FORMS",
    "L1",
    "LOSSES",
    "PENALTIES",
    "AnyProgram",
    "Block",
    "Certificate",
    "ConeForm",
    "Group",
    "L1Program",
    "Layout",
    "Loss",
    "Penalty",
    "Place",
    "Point",
    "Presolved",
    "Program",
    "QPForm",
    "get_loss",
    "get_penalty",
    "register_loss",
    "register_penalty",
    "relative_gap",
]
