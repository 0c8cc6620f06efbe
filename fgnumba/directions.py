"""Directions v, the tangents given to the parameters; see :mod:`fgnumba.model.directions`."""

from fgnumba.model.directions import BY_NAME as BY_NAME
from fgnumba.model.directions import Direction as Direction
from fgnumba.model.directions import Gaussian as Gaussian
from fgnumba.model.directions import Orthogonal as Orthogonal
from fgnumba.model.directions import Rademacher as Rademacher
from fgnumba.model.directions import RankOne as RankOne
from fgnumba.model.directions import by_name as by_name
