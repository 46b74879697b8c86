# tests/cpp/levels_test.cpp: needs no Python, so that it can be compiled for another processor.
find_package(Threads REQUIRED)
file(GLOB parts CONFIGURE_DEPENDS tests/cuda_sim/backend_test_*.cpp)
list(FILTER parts EXCLUDE REGEX "_kept\\.cpp$")  # of a device alone: it asks the simulator
add_executable(levels_test tests/cpp/levels_test.cpp ${parts}
  csrc/cpu/dispatch.cpp csrc/cpu/parallel.cpp csrc/cpu/cpus.cpp)
# Before tests/cuda_sim, whose formula_units.h is that of the simulator.
target_include_directories(levels_test PRIVATE "${formula_include}" csrc tests tests/cuda_sim)
target_compile_definitions(levels_test PRIVATE ${level_definitions})
target_compile_options(levels_test PRIVATE -O1 -ffp-contract=off)
target_link_libraries(levels_test PRIVATE ${kernel_objects} Threads::Threads)
target_link_options(levels_test PRIVATE -static)
