"""Commands and their options."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

import onepass
from onepass._suggest import suggestion
from onepass.cli import _arguments as types
from onepass.cli._arguments import Arguments, UsageError
from onepass.cli._info import info
from onepass.cli._lab import lab
from onepass.cli._predict import evaluate, predict
from onepass.cli._report import report
from onepass.cli._search import search
from onepass.cli._train import train

OTHER_NAMES = {
    "--learning-rate": "--lr", "--output": "--out", "--layers": "--hidden",
    "--patience": "--early-stopping", "--folds": "--cv", "--delimiter": "--sep",
    "--ignore": "--drop", "--verbose": "--diagnose", "--silent": "--quiet",
    "--force": "--overwrite", "--probabilities": "--proba", "--test": "--held-out",
    "--columns": "--features", "--scheduler": "--schedule", "--lr-schedule": "--schedule",
    "--n-trials": "--trials",
}  # fmt: skip
COMMANDS = ("train", "predict", "evaluate", "report", "search", "lab", "bench", "info")
DATA = "digits, breast_cancer, wine, diabetes, iris; a table such as a CSV file, - for stdin"


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        raise UsageError(f"{command}: {message}" if command else message)


def parsed(arguments: list[str]) -> Arguments:
    """The options; an unknown command or option is an error with the nearest one."""
    parser = _parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        hint = suggestion(arguments[0], COMMANDS)
        raise UsageError(f"unknown command {arguments[0]!r}, expected one of {known}{hint}")
    if arguments and arguments[0].startswith("-"):
        own = [*parser._option_string_actions]
        if arguments[0] not in own:
            hint = suggestion(arguments[0], own)
            raise UsageError(f"unknown argument {arguments[0]!r}, expected a command{hint}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known_options = options.names if "names" in options else ()
        name = next((a.partition("=")[0] for a in unknown if a.startswith("-")), unknown[0])
        near = OTHER_NAMES.get(name)
        hint = f"; did you mean {near!r}?" if near in known_options else ""
        if name in known_options:
            hint = "; options go before --"
        raise UsageError(
            f"{arguments[0]}: unknown argument {name!r}{hint or _hint(name, known_options)}"
        )
    return options


def _hint(name: str, known: Any) -> str:
    return suggestion(name, known) if name.startswith("-") else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="onepass",
        description="Train a network on a table and predict with it: train, predict, evaluate, "
        "report, search. And lab, bench, info.",
    )
    parser.add_argument("--version", action="version", version=f"onepass {onepass.__version__}")
    commands = parser.add_subparsers(metavar=f"{{{','.join(COMMANDS)}}}", required=True)
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_search(commands)
    _add_lab(commands)
    commands.add_parser("bench", help="measure the kernels beside other libraries, on this machine")
    about = commands.add_parser("info", help="version, CPU, CUDA, optional libraries")
    about.add_argument("--json", action="store_true", help="as one JSON object")
    about.set_defaults(command=info, names=["--json"])
    return parser


def _command(commands: Any, name: str, **about: Any) -> Any:
    return commands.add_parser(
        name, allow_abbrev=False, argument_default=argparse.SUPPRESS, **about
    )


def _add_train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        help="train a network on a data set or a table",
        description="Train a multilayer perceptron. The run is in runs/<name>: its model, which "
        "`onepass predict` uses, its numbers and its checkpoints.",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=f"{DATA}, or an NPZ file")
    _add_table(parser.add_argument_group("the table"))
    network = parser.add_argument_group("the network")
    _add_network(network)
    _add_start(network)
    _add_training(parser.add_argument_group("the training"))
    _add_run(parser.add_argument_group("the run"))
    parser.set_defaults(command=train, names=[*parser._option_string_actions])


def _add_table(group: Any, owner: str = "train") -> None:
    add = group.add_argument
    add("--target", metavar="NAME", help="column of the target (default: the last; NPZ: y)")
    add("--task", choices=("classification", "regression"), help="if not by the target's type")
    add("--drop", type=types.names("--drop", owner), metavar="NAMES",
        help="columns to leave out: id,date, or '\"size, m2\",id'")  # fmt: skip
    add(
        "--features",
        type=types.names("--features", owner),
        metavar="NAMES",
        help="columns to use alone",
    )
    add("--categorical", choices=("auto", "refuse"), help="auto: encode columns of text (one-hot), "
        "and fill in missing numbers (by the median)")  # fmt: skip
    add("--words", type=types.names("--words", owner), metavar="NAMES", help="columns of words "
        "that look like something else: 32GB, 2:10, 3g")  # fmt: skip
    add("--preprocess", choices=("standardize", "minmax", "whiten", "zca"), help="of the inputs "
        "(default standardize: mean 0, deviation 1)")  # fmt: skip
    add("--missing", choices=("impute", "refuse"), help="missing cells (default refuse; "
        "impute with --categorical auto)")  # fmt: skip
    _add_reading(group)


def _add_reading(group: Any) -> None:
    add = group.add_argument
    add("--sep", type=types.separator, metavar="C", help="separator (default: found)")
    add("--decimal", choices=(".", ","), help="decimal sign (default: found)")
    add("--header", action="store_const", const=True, help="the first line has names, also where "
        "they look like data: 2019")  # fmt: skip
    add("--no-header", dest="header", action="store_const", const=False,
        help="no line of names: the columns are 1, 2, …")  # fmt: skip
    add("--encoding", metavar="NAME", help="of the text (default utf-8): latin-1, cp1252, …")
    words = types.names("--na-values", "read_table", "words or numbers")
    add("--na-values", type=words, metavar="WORDS", help="what else means a "
        "missing cell: unknown,-9999 (with =: --na-values=-9999,unknown)")  # fmt: skip


def _add_network(group: Any, owner: str = "train") -> None:
    add = group.add_argument
    sizes = types.sizes("--hidden", owner)
    add("--hidden", type=sizes, metavar="SIZES", help="hidden layers (default 256,256)")
    add("--norm", choices=("batch", "none"), help="after each hidden layer (default batch)")
    add("--activation", metavar="NAME", help="relu, leaky_relu, gelu, … (default relu)")
    share = types.number("--dropout", owner, low=0, high=1)
    add("--dropout", type=share, metavar="P", help="probability, 0 for none (default 0.2)")
    add("--init", metavar="NAME", help="of the weights: auto (by the activation), "
        "kaiming_normal, orthogonal, … (default: PyTorch's)")  # fmt: skip


def _add_start(group: Any) -> None:
    add = group.add_argument
    add("--init-from", type=types.path("--init-from"), metavar="RUN", help="begin with the weights "
        "of an earlier run on the same columns, and with its network")  # fmt: skip
    frozen = types.count("--freeze", 0)
    add("--freeze", type=frozen, metavar="N", help="with --init-from: keep its first N layers")


def _add_training(group: Any, owner: str = "train") -> None:
    add = group.add_argument
    epochs = types.count("--epochs", owner=owner)
    add("--epochs", type=epochs, metavar="N", help="at most (default 60)")
    size = types.count("--batch-size", owner=owner)
    add("--batch-size", type=size, metavar="N", help="samples a step (default 32)")
    rate = types.number("--lr", owner, above=0)
    add(
        "--lr",
        type=rate,
        metavar="X",
        help="peak rate (default 0.004 for Adam's kin)",
    )
    add("--optimizer", metavar="NAME", help="adamw, sgd, … (default adamw)")
    decay = types.number("--weight-decay", owner, low=0)
    add("--weight-decay", type=decay, metavar="X", help="of the optimizer (default 0.3 for adamw, "
        "else its own)")  # fmt: skip
    add("--schedule", metavar="NAME", help="of the rate: warmup_cosine (default), none, constant, "
        "cosine, exponential, harmonic, inverse_time, multi_step, one_cycle, plateau, polynomial, "
        "step, warmup; by default as long as the training")  # fmt: skip
    listed = types.names("--schedule-options", owner, "options, NAME=VALUE")
    add("--schedule-options", type=listed,
        metavar="OPTIONS", help="those of its class in optim.lr_scheduler: gamma=0.5,step_size=10, "
        "interval=step; numbers of a list joined by +: milestones=10+20")  # fmt: skip
    smoothing = types.number("--label-smoothing", owner, low=0, high=1)
    add("--label-smoothing", type=smoothing, metavar="S", help="of classes, 0 for none; the "
        "losses are shown without it (default 0.1)")  # fmt: skip
    add("--class-weight", choices=("balanced",), help="rare classes count as much as frequent ones")
    patience = types.count("--early-stopping", 0, owner)
    add("--early-stopping", type=patience, metavar="N", help="stop after N epochs without a better "
        "validation loss, 0 for never; the best epoch is kept anyway (default 20)")  # fmt: skip
    if owner == "train":
        at_least = types.count("--cv", 2)
        add("--cv", type=at_least, metavar="K", help="cross-validate over K folds first; each "
            "is a run in folds/ of the run's folder")  # fmt: skip
        add("--groups", metavar="COLUMN", help="rows with the same cell here belong together, such "
            "as those of a patient: all are in one part or fold; not an input")  # fmt: skip
    _add_device(group)
    if owner == "train":
        _add_ranks(group)
    add(
        "--seed",
        type=types.seed(owner),
        metavar="N",
        help="of parts, weights and dropout (default 0)",
    )


def _add_device(group: Any) -> None:
    group.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default cpu)")


def _add_ranks(group: Any) -> None:
    add = group.add_argument
    add("--parallel", choices=("auto", "none"), help="auto: processes that mpiexec or torchrun "
        "has started train together (default); none: each one alone")  # fmt: skip
    pieces = types.count("--reproducible")
    add("--reproducible", type=pieces, metavar="K", help="the same bits with 1, 2, 4 … K "
        "processes: K pieces of each batch (a power of two, such as 8)")  # fmt: skip


def _add_run(group: Any) -> None:
    add = group.add_argument
    add("--out", type=types.path("--out"), metavar="DIR", help="instead of runs/<name>")
    add("--resume", action="store_true", help="go on with the run that is there, with its options")
    add("--overwrite", action="store_true", help="replace the run there, once this is done")
    add("--quiet", action="store_true", help="no bar and no table, only the end")
    add("--profile", action="store_true", help="time the parts of a step")
    add("--diagnose", action="store_true", help="gradients, updates and dead units by layer")


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        help="predict with a run of `onepass train`",
        description="Write a table with a prediction for each row of DATA.",
    )
    _add_what(parser, "predict")
    add = parser.add_argument
    out = types.written("--out", "predict")
    add("--out", type=out, metavar="FILE", help="a CSV file (default: the console)")
    add("--proba", action="store_true", help="a column for the probability of each class too")
    add(
        "--keep",
        type=types.names("--keep", "predict"),
        metavar="NAMES",
        help="columns of DATA to copy: id",
    )
    parser.set_defaults(command=predict, names=[*parser._option_string_actions])


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        help="compare predictions of a run with targets",
        description="Print how good the predictions for DATA are.",
    )
    _add_what(parser, "evaluate")
    add = parser.add_argument
    add("--held-out", action="store_true", help="of the training's data, only the part held out")
    add("--json", action="store_true", help="as one JSON object, with all digits")
    add("--plot", type=types.path("--plot", "evaluate"), metavar="FILE", help="draw the confusion "
        "matrix, or the residuals of a regression: a PNG, SVG or PDF file")  # fmt: skip
    parser.set_defaults(command=evaluate, names=[*parser._option_string_actions])


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        help="write all about a run as one HTML page",
        description="Write a page about a run, also of one that is still trained: curves, the "
        "confusion matrix or residuals, data, network, options, environment, how to repeat it.",
    )
    add = parser.add_argument
    add(
        "run",
        metavar="RUN",
        type=types.path("RUN", "report"),
        help="such as runs/prices, or the log_dir of a Trainer",
    )
    out = types.path("--out", "report")
    add("--out", type=out, metavar="FILE", help="of the page (default: RUN/report.html)")
    parser.set_defaults(command=report, names=[*parser._option_string_actions])


def _add_search(commands: Any) -> None:
    parser = _command(
        commands,
        "search",
        help="try many options of `onepass train`, and keep the best run",
        description="Train with options drawn at random, compare by the validation part, and train "
        "the best ones into a run that `onepass predict` uses. Varies lr, hidden, dropout, "
        "weight_decay, batch_size and optimizer, but for those that are given; --space says what "
        "else.",
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help=f"{DATA}, or an NPZ file")
    _add_varied(parser.add_argument_group("the search"))
    _add_table(parser.add_argument_group("the table"), "search")
    _add_network(parser.add_argument_group("the network, where it does not vary"), "search")
    training = parser.add_argument_group("the training, where it does not vary")
    _add_training(training, "search")
    parser.set_defaults(command=search, names=[*parser._option_string_actions])


def _add_varied(group: Any) -> None:
    add = group.add_argument
    trials = types.count("--trials", owner="search")
    add("--trials", type=trials, metavar="N", help="how many (default 20)")
    add("--space", nargs="+", action="extend", metavar="NAME=VALUES", help="vary these alone: "
        "lr=1e-4..1e-1 (log), dropout=0..0.5, hidden=64/256,256, optimizer=adamw/sgd; also "
        "weight_decay, batch_size, label_smoothing, activation, norm, init, schedule")  # fmt: skip
    add("--sampler", choices=("random", "tpe", "gp"), help="random (default), or one of "
        "Optuna's, which learn from earlier trials")  # fmt: skip
    add("--pruner", choices=("none", "median", "halving", "hyperband"), help="end trials early "
        "that lag behind (default none; hyperband is Optuna's)")  # fmt: skip
    add("--metric", metavar="NAME", help="of the validation part: loss (default), accuracy, mae")
    add("--out", type=types.path("--out", "search"), metavar="DIR",
        help="instead of runs/<name>-search")  # fmt: skip
    add("--resume", action="store_true", help="go on with the search that is there, as it was "
        "begun; a larger --trials adds some")  # fmt: skip
    add("--quiet", action="store_true", help="no bar and no table, only the end")


def _add_lab(commands: Any) -> None:
    parser = _command(
        commands,
        "lab",
        help="experiments of lecture courses, each with a picture",
        description="Without NAME: list the experiments. With it: run one; exit status 1 where "
        "its claim does not hold.",
    )
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="a name or code from the list: momentum, C05")
    add("--all", action="store_true", help="run all, which takes some minutes")
    add("--report", action="store_true", help="make a page, report.html, of all; what this "
        "version has saved with this seed is not run again, unless with --all")  # fmt: skip
    add("--seed", type=types.lab_seed, metavar="N", help="random seed, below 2**32 (default 0)")
    add("--out", type=types.path("--out", "lab"), metavar="DIR", help="of pictures and numbers "
        "(default lab)")  # fmt: skip
    parser.set_defaults(command=lab, names=[*parser._option_string_actions])


def _add_what(parser: Any, owner: str) -> None:
    parser.add_argument(
        "run", metavar="RUN", type=types.path("RUN", owner), help="such as runs/prices"
    )
    parser.add_argument(
        "data", metavar="DATA", help="a table with the columns of the training, in any order"
    )
    _add_device(parser)
    _add_reading(parser.add_argument_group("the table, where it differs from the training's"))
