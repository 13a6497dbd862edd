"""What the package hands on, and where it is defined."""

from .cone_form import ConeForm as ConeForm
from .l1 import AnyProgram as AnyProgram
from .l1 import L1Program as L1Program
from .layout import FORMS as FORMS
from .layout import Layout as Layout
from .layout import Place as Place
from .loss import Loss as Loss
from .losses import LOSSES as LOSSES
from .losses import get_loss as get_loss
from .losses import register_loss as register_loss
from .penalties import L1 as L1
from .penalties import PENALTIES as PENALTIES
from .penalties import Group as Group
from .penalties import Penalty as Penalty
from .penalties import get_penalty as get_penalty
from .penalties import register_penalty as register_penalty
from .point import Certificate as Certificate
from .point import Point as Point
from .point import relative_gap as relative_gap
from .presolve import Presolved as Presolved
from .program import Block as Block
from .program import Program as Program
from .qp_form import QPForm as QPForm
