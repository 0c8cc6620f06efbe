"""Learning rates as functions of the step; see :mod:`fgnumba.optimizers.schedules`."""

from fgnumba.optimizers.schedules import Constant as Constant
from fgnumba.optimizers.schedules import Cosine as Cosine
from fgnumba.optimizers.schedules import Exponential as Exponential
from fgnumba.optimizers.schedules import Schedule as Schedule
from fgnumba.optimizers.schedules import Warmup as Warmup
