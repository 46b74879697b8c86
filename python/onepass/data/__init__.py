"""Data: loaders with a reproducible order, scaling, splits, and named or tabular data sets."""

from onepass.data._loader import DataLoader
from onepass.data._scaling import MinMax, Standardize
from onepass.data._sets import Dataset, load
from onepass.data._split import split_indices, train_test_split

__all__ = [
    "DataLoader",
    "Dataset",
    "MinMax",
    "Standardize",
    "load",
    "split_indices",
    "train_test_split",
]
