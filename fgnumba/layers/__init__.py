"""Layers: each says its shapes and its initial parameters, and binds operations. The parameters belong to a model."""

from fgnumba.layers.attention import SelfAttention
from fgnumba.layers.base import Layer, Perturbation, Shape, Site
from fgnumba.layers.composite import Composite
from fgnumba.layers.convolution import Conv2d
from fgnumba.layers.dense import Dense
from fgnumba.layers.embedding import Embedding
from fgnumba.layers.function import Function
from fgnumba.layers.normalization import GroupNorm, LayerNorm
from fgnumba.layers.pooling import AvgPool2d, GlobalAveragePool2d, MaxPool2d
from fgnumba.layers.positional import PositionalEmbedding, RotaryEmbedding
from fgnumba.layers.recurrent_elementwise import ElementwiseLSTM, LinearRecurrentUnit, MinGRU
from fgnumba.layers.recurrent_full import GRU, LSTM
from fgnumba.layers.rms_norm import RMSNorm
from fgnumba.layers.structure import Activation, Add, Concatenate, Dropout, Elementwise, Flatten
from fgnumba.layers.transformer_block import TransformerBlock

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Add",
    "AvgPool2d",
    "Composite",
    "Concatenate",
    "Conv2d",
    "Dense",
    "Dropout",
    "Elementwise",
    "ElementwiseLSTM",
    "Embedding",
    "Flatten",
    "Function",
    "GlobalAveragePool2d",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "LinearRecurrentUnit",
    "MaxPool2d",
    "MinGRU",
    "Perturbation",
    "PositionalEmbedding",
    "RMSNorm",
    "RotaryEmbedding",
    "SelfAttention",
    "Shape",
    "Site",
    "TransformerBlock",
]
