"""The recipes that train any model; those for recurrent models alone are tested by themselves."""

from fgnumba.estimators import RECIPES

GENERAL = {name: recipe for name, recipe in RECIPES.items() if recipe.general}
