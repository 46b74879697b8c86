"""The descriptions of parameters that both estimators have."""

PARAMETERS = {
    "hidden_layer_sizes": "units of each hidden layer: a number or a list; () is a linear model.",
    "activation": '"relu", "logistic", "tanh", "identity" as in scikit-learn, or any other\n'
    '        activation of ``onepass.ops``, such as "gelu" or "silu".',
    "norm": 'between a hidden layer and its activation: "batch", "layer" or "rms"; None: nothing.',
    "dropout": "the share of hidden units that a step leaves out, >= 0 and < 1.",
    "standardize": "bring inputs (and the targets of a regression) to mean 0 and deviation 1\n"
    "        first, by the statistics of the training data; predictions come back in the unit of\n"
    "        y. False takes them as they are, as scikit-learn's MLP does.",
    "optimizer": "the name of any class of ``onepass.optim`` that steps on gradients alone, in\n"
    '        small letters ("adamw", "adam", "sgd", "lion", …); "lbfgs", whose steps are of all\n'
    "        samples; or a function of the parameters, such as\n"
    "        ``functools.partial(optim.AdamW, weight_decay=0.1)``.",
    "alpha": "the L2 penalty: alpha / (2 S) · Σ W² is added to the loss, S being the sum of the\n"
    "        weights in a batch (its samples, without weights); biases and norms have none.",
    "batch_size": 'samples in a batch, no more than there are; "auto": min(200, N). Batches of an\n'
    "        epoch differ by at most one sample.",
    "learning_rate": 'with any optimizer: "constant"; "invscaling": learning_rate_init / (t +\n'
    '        1)^power_t, t being the samples seen; "adaptive": a fifth whenever a fit would stop,\n'
    "        until it is 1e-6.",
    "learning_rate_init": "the learning rate; None: the default of the optimizer, 0.001 for Adam\n"
    "        and SGD; with AdamW 0.004 in MLPClassifier, 0.001 in MLPRegressor.",
    "power_t": 'of "invscaling".',
    "max_iter": "the most epochs of a fit; with L-BFGS its steps.",
    "shuffle": "whether each epoch has the samples in another order.",
    "random_state": "an integer, a RandomState or None: one number drawn from it decides the\n"
    "        first weights, the order, the masks of dropout and what is held out. The random\n"
    "        numbers of ``onepass.nn`` are left alone. Unless it is None, NumPy's BLAS has one\n"
    "        thread while the estimator computes: results do not depend on their number, and\n"
    "        products of 16 million multiplications and more do not share cores.",
    "tol": "a fit ends where the loss (with early_stopping the score) has not improved by tol in\n"
    "        more than n_iter_no_change epochs; with L-BFGS where max |∇L| <= tol.",
    "verbose": "whether to print the loss of each epoch.",
    "warm_start": "fit goes on with the network of the last fit, its optimizer, epochs and\n"
    "        scales; y has the same classes.",
    "momentum": "of an optimizer that has it; None: its default, 0.9 for SGD.",
    "nesterovs_momentum": "of an optimizer that has it; None: its default, True for SGD.",
    "early_stopping": "hold out a part (by class where y has classes), watch the score there, and\n"
    "        take the weights of the best epoch.",
    "validation_fraction": "the share that is held out.",
    "beta_1": "of an optimizer that has betas; None: its default, 0.9 for Adam.",
    "beta_2": "likewise, 0.999 for Adam.",
    "epsilon": "of an optimizer that has it; None: its default, 1e-8 for Adam.",
    "weight_decay": "of an optimizer that has it, of weights alone; None: its default, 1.0 for\n"
    "        AdamW; a step takes lr times it of each weight.",
    "n_iter_no_change": "see tol; inf: a fit has max_iter epochs.",
    "device": '"cpu", "cuda" or "cuda:N": where the network trains and predicts. Arrays go in and\n'
    "        come out as NumPy's.",
}
