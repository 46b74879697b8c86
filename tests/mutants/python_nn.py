"""Planted mistakes in python/onepass/nn: see README.md."""

from __future__ import annotations

from mutant import Mutant

ABSENT = "tests/test_absent_gradients.py"
FROZEN = "tests/test_frozen.py"
IN_THREADS = "tests/test_model_threads.py"
MODES = "tests/test_layer_modes.py"
FOLDER = "python/onepass/nn"
RESUME = "tests/test_resume_counters.py"

NN = [
    Mutant(
        "evaluate: always leaves the model in training mode",
        f"{FOLDER}/_use.py",
        "module.training = before[0]",
        "module.training = True",
        (f"{RESUME}::test_reading_a_model_leaves_its_mode",),
    ),
    Mutant(
        "threads: the first reader to leave ends evaluation mode for all",
        f"{FOLDER}/_use.py",
        "if any(other.trains == entry.trains for other in use.entries):",
        "if any(other.thread == entry.thread for other in use.entries):",
        ("tests/test_trainer_threads.py::test_predict_from_many_threads_at_once",),
    ),
    Mutant(
        "parameter: a gradient that somebody holds is written to",
        "python/onepass/_parameter.py",
        "free = getrefcount(self._spare) == 2",
        "free = True",
        (f"{ABSENT}::test_a_gradient_that_the_user_kept_is_never_overwritten",),
    ),
    Mutant(
        "modules: threads share what forward saved in evaluation",
        f"{FOLDER}/_saved.py",
        "class _OfThread(local):",
        "class _OfThread:",
        (IN_THREADS,),
    ),
    Mutant(
        "modules: a product that another pass needs is written to",
        f"{FOLDER}/_saved.py",
        "return self.trained if getrefcount(self.trained) == 2 else None",
        "return self.trained",
        (f"{IN_THREADS}::test_a_layer_that_trains_in_a_model_that_does_not",),
    ),
    Mutant(
        "modules: backward of a thread whose values another thread replaced",
        f"{FOLDER}/_saved.py",
        "            self.displaced.add(self.thread)\n",
        "            pass\n",
        (f"{IN_THREADS}::test_interleaved_training_is_refused",),
    ),
    Mutant(
        "residual: values of a side in another mode are lost",
        f"{FOLDER}/_residual.py",
        "return [saved for s in sides if s.training != training for saved in s._all_saved()]",
        "return []",
        (f"{IN_THREADS}::test_an_evaluation_between_forward_and_backward_changes_nothing",),
    ),
    Mutant(
        "trainer: a layer's own eval() is forgotten",
        f"{FOLDER}/_use.py",
        "module._holds_eval = hold",
        "pass",
        (f"{MODES}::test_a_layers_own_eval_outlives_every_call",),
    ),
    Mutant(
        "batch norm: frozen statistics follow the batch",
        f"{FOLDER}/_batch_norm.py",
        ' and not read(self, "statistics_frozen")',
        "",
        (f"{FROZEN}::test_freeze_without_statistics_and_unfreeze",),
    ),
]
