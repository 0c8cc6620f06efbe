"""Update of the parameters along a forward gradient, the directions drawn again. ``cpu`` binds it."""

STORE, SGD, MOMENTUM = range(3)
