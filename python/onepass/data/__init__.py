"""Data: reproducible loaders, augmentation, scaling, splits, and named or tabular data sets."""

from onepass.data import augment
from onepass.data._encoding import Encoding
from onepass.data._feature import Feature
from onepass.data._folds import fold_indices
from onepass.data._loader import DataLoader
from onepass.data._projection import PCA, Whiten
from onepass.data._scaling import MinMax, Standardize
from onepass.data._sets import Dataset, load
from onepass.data._split import split_indices, train_test_split
from onepass.data._table import Table, read_table

__all__ = [
    "PCA",
    "DataLoader",
    "Dataset",
    "Encoding",
    "Feature",
    "MinMax",
    "Standardize",
    "Table",
    "Whiten",
    "augment",
    "fold_indices",
    "load",
    "read_table",
    "split_indices",
    "train_test_split",
]
