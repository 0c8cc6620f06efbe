"""Layers: each says its shapes and its initial parameters, and binds operations. The parameters belong to a model."""

from fgnumba.layers.base import Layer, Perturbation, Shape, Site
from fgnumba.layers.convolution import Conv2d
from fgnumba.layers.dense import Dense
from fgnumba.layers.function import Function
from fgnumba.layers.normalization import GroupNorm, LayerNorm
from fgnumba.layers.pooling import AvgPool2d, GlobalAveragePool2d, MaxPool2d
from fgnumba.layers.structure import Activation, Add, Concatenate, Dropout, Elementwise, Flatten

__all__ = [
    "Activation",
    "Add",
    "AvgPool2d",
    "Concatenate",
    "Conv2d",
    "Dense",
    "Dropout",
    "Elementwise",
    "Flatten",
    "Function",
    "GlobalAveragePool2d",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "MaxPool2d",
    "Perturbation",
    "Shape",
    "Site",
]
