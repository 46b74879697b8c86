#include "bind/epilogue.h"

#include "bind/kernel_info.h"

namespace onepass::bind {

int32_t read_activation(const Border& b, ActivationOptions* options, int activation) {
  PyObject* const name = b.given(activation);
  PyObject* const given = b.given(activation + 1);
  const KernelInfo* info = find(activations(), string(b.op(), "activation", name));
  if (!info)
    value_error(b.op(), is("activation", name) + ", expected one of " + names_of(activations()));
  const size_t count = info->hyper.size();
  if (!PyTuple_Check(given) || size_t(PyTuple_GET_SIZE(given)) != count)
    value_error(b.op(), is("options", given) + ", expected a tuple of " + std::to_string(count) +
                            " for activation " + repr(name));
  for (size_t i = 0; i < count; ++i)
    options->values[i] = real(b.op(), info->hyper[i], PyTuple_GET_ITEM(given, Py_ssize_t(i)));
  return info->index;
}

void set_epilogue(Border& b, Epilogue* epilogue, ActivationOptions* options, int activation) {
  epilogue->activation = read_activation(b, options, activation);
  epilogue->options = options->values;
  epilogue->dropout = b.dropout(activation + 2, activation + 3, activation + 4, activation + 5);
}

}  // namespace onepass::bind
