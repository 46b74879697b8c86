# A unit of each backend for each header that kernels/*_list.h include: an edit of one compiles
# nothing of the others. Sets formula_units (the CPU's sources), formula_cuda_units, of them
# formula_flushed_units, and formula_include (the folder of formula_units.h, which lists them for
# the tables of both backends).

set(formula_include "${CMAKE_CURRENT_BINARY_DIR}/formulas")
set(formula_units "")
set(formula_cuda_units "")
set(formula_flushed_units "")
set(names "")
foreach(family activation update)
  set(prologue "#define ONEPASS_ISA cuda")
  if(family STREQUAL update)
    set(prologue "#include \"cuda/flushed.h\"")
  endif()
  set(list csrc/kernels/${family}_list.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})
  file(STRINGS ${list} includes REGEX "^#include \"kernels/")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE ".*/(.*)\\.h.*" "\\1" formula "${include}")
    set(unit "${formula_include}/${family}_${formula}")
    configure_file(csrc/cpu/formula.cpp.in "${unit}.cpp" @ONLY)
    list(APPEND formula_units "${unit}.cpp")
    configure_file(csrc/cuda/formula.cu.in "${unit}.cu" @ONLY)
    list(APPEND formula_cuda_units "${unit}.cu")
    if(family STREQUAL update)
      list(APPEND formula_flushed_units "${unit}.cu")
    endif()
    string(APPEND names " unit(${family}_${formula}, level)")
  endforeach()
endforeach()
file(CONFIGURE OUTPUT "${formula_include}/formula_units.h"
  CONTENT "#define ONEPASS_FORMULA_UNITS(unit, level)${names}\n")
