# A unit of the CPU backend for each header that kernels/*_list.h include: an edit of one compiles
# nothing of the others. Sets formula_units (sources) and formula_include (the folder of
# cpu/formula_units.h, which lists them for csrc/cpu/dispatch.cpp).

set(formula_include "${CMAKE_CURRENT_BINARY_DIR}/formulas")
set(formula_units "")
set(names "")
foreach(family activation update)
  set(list csrc/kernels/${family}_list.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
  file(STRINGS ${list} includes REGEX "^#include \"kernels/")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE ".*/(.*)\\.h.*" "\\1" formula "${include}")
    set(unit "${formula_include}/${family}_${formula}.cpp")
    configure_file(csrc/cpu/formula.cpp.in "${unit}" @ONLY)
    list(APPEND formula_units "${unit}")
    string(APPEND names " unit(${family}_${formula}, level)")
  endforeach()
endforeach()
file(CONFIGURE OUTPUT "${formula_include}/cpu/formula_units.h"
  CONTENT "#define ONEPASS_FORMULA_UNITS(unit, level)${names}\n")
