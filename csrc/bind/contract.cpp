#include "bind/contract.h"

#include <string>
#include <vector>

namespace onepass::bind {

namespace {

struct Listed {
  Contract contract;
  py::object callable;
};
std::vector<Listed>& listed() {
  static std::vector<Listed>& all = *new std::vector<Listed>;
  return all;
}

}  // namespace

void list_contract(const Contract& contract, const py::object& callable) {
  if (contract.count > Contract::kMostArguments)  // one that was made at run time
    throw std::logic_error(std::string(contract.op) + ": kMostArguments is too small");
  listed().push_back({contract, callable});
}

py::object make_function(const py::module_& m, const Contract& contract, FastFunction function,
                         const void* state) {
  std::string signature = std::string(contract.op) + "(";
  bool first = true;
  for (int i = 0; i < contract.count; ++i) {
    const Argument& a = contract.arguments[i];
    if (a.use & made) continue;
    signature += (first ? "" : ", ") + std::string(a.name);
    first = false;
  }
  const py::object callable = make_function(m, signature + ")", function, state);
  list_contract(contract, callable);
  return callable;
}

void define(py::module_& m, const Contract& contract, FastFunction function) {
  m.attr(contract.op) = make_function(m, contract, function);
}

namespace {

py::object contract_list(Arguments given) {
  given.expect("contracts", 0);
  constexpr const char* kShapeNames[] = {"",           "reference",     "channel", "saved",
                                         "rows",       "single",        "shorter", "free",
                                         "matrix_row", "matrix_column", "vector",  "broadcast"};
  constexpr const char* kTypeNames[] = {
      "",       "floating", "reference", "parameter", "computing", "compatible", "target",
      "mask",   "flag",     "integer",   "word",      "number",    "real",       "norm_order",
      "choice", "text",     "axis",      "options",   "labels",    "extents",    "wide"};
  static_assert(std::size(kShapeNames) == kShapes && std::size(kTypeNames) == kTypes);
  py::list all;
  for (const auto& [c, callable] : listed()) {
    py::list arguments;
    for (int i = 0; i < c.count; ++i) {
      const Argument& a = c.arguments[i];
      py::dict d;
      d["name"] = a.name;
      d["shape"] = kShapeNames[int(a.kind.shape)];
      d["type"] = kTypeNames[int(a.kind.type)];
      for (const auto& [word, bit] : {std::pair{"write", write},
                                      {"update", update},
                                      {"made", made},
                                      {"optional", optional},
                                      {"aliased", aliased},
                                      {"packed", packed},
                                      {"many", many}})
        d[word] = bool(a.use & bit);
      d["low"] = a.low;
      d["high"] = a.high;
      d["choices"] = a.kind.type == Type::choice ? a.more : "";
      arguments.append(d);
    }
    py::dict d;
    d["name"] = c.op;
    d["function"] = callable;
    d["arguments"] = arguments;
    all.append(d);
  }
  return all;
}

}  // namespace

void define_contracts(py::module_& m) { define(m, "contracts()", &fast<&contract_list>); }

}  // namespace onepass::bind
