"""Update of the parameters along a forward gradient, whose directions are drawn again."""

STORE, SGD, MOMENTUM = range(3)
