"""Where the experiments come from, by the keys of their SOURCES: papers first, then lectures."""

PAPERS = {
    "attouch-2000": "Attouch, Goudou & Redont, The heavy ball with friction method, I, 2000",
    "ba-2016": "Ba, Kiros & Hinton, Layer normalization, 2016",
    "baldi-2013": "Baldi & Sadowski, Understanding dropout, 2013",
    "bansal-2018": "Bansal, Chen & Wang, Can we gain more from orthogonality regularizations in "
    "training deep networks?, 2018",
    "beale-1958": "Beale, On an iterative method for finding a local minimum of a function of more "
    "than one variable, 1958",
    "bergstra-2012": "Bergstra & Bengio, Random search for hyper-parameter optimization, 2012",
    "bishop-2006": "Bishop, Pattern recognition and machine learning, 2006, section 1.1",
    "bottou-2008": "Bottou & Bousquet, The tradeoffs of large scale learning, 2008",
    "bottou-2009": "Bottou, Curiously fast convergence of some stochastic gradient descent "
    "algorithms, 2009",
    "byrd-2011": "Byrd, Chin, Neveitt & Nocedal, On the use of stochastic Hessian information in "
    "optimization methods for machine learning, 2011",
    "cochran-1977": "Cochran, Sampling techniques, 1977, chapter 2",
    "cybenko-1989": "Cybenko, Approximation by superpositions of a sigmoidal function, 1989",
    "daubechies-2004": "Daubechies, Defrise & De Mol, An iterative thresholding algorithm for "
    "linear inverse problems with a sparsity constraint, 2004",
    "dauphin-2014": "Dauphin et al., Identifying and attacking the saddle point problem in "
    "high-dimensional non-convex optimization, 2014",
    "duchi-2011": "Duchi, Hazan & Singer, Adaptive subgradient methods for online learning and "
    "stochastic optimization, 2011",
    "frankle-2021": "Frankle, Schwab & Morcos, Training BatchNorm and only BatchNorm: on the "
    "expressive power of random features in CNNs, 2021",
    "ge-2015": "Ge, Huang, Jin & Yuan, Escaping from saddle points: online stochastic gradient for "
    "tensor decomposition, 2015",
    "ge-2016": "Ge, Lee & Ma, Matrix completion has no spurious local minimum, 2016",
    "glorot-2010": "Glorot & Bengio, Understanding the difficulty of training deep feedforward "
    "neural networks, 2010",
    "goh-2017": "Goh, Why momentum really works, 2017",
    "goodfellow-2014": "Goodfellow et al., Multi-digit number recognition from Street View imagery "
    "using deep convolutional neural networks, 2014",
    "hastie-2009": "Hastie, Tibshirani & Friedman, The elements of statistical learning, 2009, "
    "chapter 7",
    "he-2015": "He, Zhang, Ren & Sun, Delving deep into rectifiers: surpassing human-level "
    "performance on ImageNet classification, 2015",
    "hoerl-1970": "Hoerl & Kennard, Ridge regression: biased estimation for nonorthogonal "
    "problems, 1970",
    "hoffman-2019": "Hoffman, Roberts & Yaida, Robust learning with Jacobian regularization, 2019",
    "ioffe-2015": "Ioffe & Szegedy, Batch normalization: accelerating deep network training by "
    "reducing internal covariate shift, 2015",
    "ioffe-2017": "Ioffe, Batch renormalization: towards reducing minibatch dependence in "
    "batch-normalized models, 2017",
    "johnson-2017": "Johnson, Learning PyTorch with examples, 2017",
    "kingma-2015": "Kingma & Ba, Adam: a method for stochastic optimization, 2015",
    "lecun-1998": "LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998",
    "li-2020": "Li & Arora, An exponential learning rate schedule for deep learning, 2020",
    "loshchilov-2019": "Loshchilov & Hutter, Decoupled weight decay regularization, 2019",
    "minsky-1969": "Minsky & Papert, Perceptrons, 1969",
    "mishkin-2017": "Mishkin, Sergievskiy & Matas, Systematic evaluation of convolution neural "
    "network advances on the ImageNet, 2017",
    "nesterov-1983": "Nesterov, A method for solving the convex programming problem with "
    "convergence rate O(1/k²), 1983",
    "nesterov-2004": "Nesterov, Introductory lectures on convex optimization, 2004",
    "neyshabur-2015": "Neyshabur, Salakhutdinov & Srebro, Path-SGD: path-normalized optimization "
    "in deep neural networks, 2015",
    "nocedal-2006": "Nocedal & Wright, Numerical optimization, 2006",
    "novikoff-1962": "Novikoff, On convergence proofs on perceptrons, 1962",
    "pascanu-2013": "Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural "
    "networks, 2013",
    "polyak-1964": "Polyak, Some methods of speeding up the convergence of iteration methods, 1964",
    "prechelt-1998": "Prechelt, Early stopping, but when?, 1998",
    "robbins-1951": "Robbins & Monro, A stochastic approximation method, 1951",
    "rosenblatt-1958": "Rosenblatt, The perceptron: a probabilistic model for information storage "
    "and organization in the brain, 1958",
    "rumelhart-1986": "Rumelhart, Hinton & Williams, Learning internal representations by error "
    "propagation, 1986",
    "santurkar-2018": "Santurkar, Tsipras, Ilyas & Mądry, How does batch normalization help "
    "optimization?, 2018",
    "saxe-2014": "Saxe, McClelland & Ganguli, Exact solutions to the nonlinear dynamics of "
    "learning in deep linear neural networks, 2014",
    "simard-2003": "Simard, Steinkraus & Platt, Best practices for convolutional neural networks "
    "applied to visual document analysis, 2003",
    "smith-2017": "Smith, Cyclical learning rates for training neural networks, 2017",
    "soudry-2018": "Soudry, Hoffer, Nacson, Gunasekar & Srebro, The implicit bias of gradient "
    "descent on separable data, 2018",
    "srivastava-2014": "Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, Dropout: a "
    "simple way to prevent neural networks from overfitting, 2014",
    "szegedy-2016": "Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, Rethinking the Inception "
    "architecture for computer vision, 2016",
    "tibshirani-1996": "Tibshirani, Regression shrinkage and selection via the lasso, 1996",
    "wilson-2017": "Wilson, Roelofs, Stern, Srebro & Recht, The marginal value of adaptive "
    "gradient methods in machine learning, 2017",
    "wu-2018": "Wu & He, Group normalization, 2018",
    "yosinski-2014": "Yosinski, Clune, Bengio & Lipson, How transferable are features in deep "
    "neural networks?, 2014",
    "zeiler-2012": "Zeiler, ADADELTA: an adaptive learning rate method, 2012",
    "zhang-2017": "Zhang, Bengio, Hardt, Recht & Vinyals, Understanding deep learning requires "
    "rethinking generalization, 2017",
}
LECTURES = {
    "minnesota-2025": "University of Minnesota, lectures on deep learning, 2025",
    "optimization-3": "lecture “Optimization III”",
    "initialisation": "lecture on initialisation, batch normalisation and the landscape",
    "skoltech": "Skoltech, lectures on deep learning",
}


def cited(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The sources of these keys, in their order."""
    return tuple((PAPERS | LECTURES)[key] for key in keys)
