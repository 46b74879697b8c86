"""Modules with forward and backward: ``y = m(x)``, ``dx = m.backward(dy)``."""

from onepass._parameter import Parameter as Parameter
from onepass.nn import init as init
from onepass.nn._activation import GELU as GELU
from onepass.nn._activation import SELU as SELU
from onepass.nn._activation import Activation as Activation
from onepass.nn._activation import Identity as Identity
from onepass.nn._activation import LeakyReLU as LeakyReLU
from onepass.nn._activation import ReLU as ReLU
from onepass.nn._activation import Sigmoid as Sigmoid
from onepass.nn._activation import SiLU as SiLU
from onepass.nn._activation import Tanh as Tanh
from onepass.nn._batch_norm import BatchNorm1d as BatchNorm1d
from onepass.nn._batch_norm import BatchNorm2d as BatchNorm2d
from onepass.nn._batch_norm import BatchNorm3d as BatchNorm3d
from onepass.nn._dropout import Dropout as Dropout
from onepass.nn._flatten import Flatten as Flatten
from onepass.nn._linear import Linear as Linear
from onepass.nn._loss import CrossEntropyLoss as CrossEntropyLoss
from onepass.nn._loss import MSELoss as MSELoss
from onepass.nn._module import Module as Module
from onepass.nn._random import get_rng_state as get_rng_state
from onepass.nn._random import manual_seed as manual_seed
from onepass.nn._random import set_rng_state as set_rng_state
from onepass.nn._residual import Residual as Residual
from onepass.nn._sequential import Sequential as Sequential
