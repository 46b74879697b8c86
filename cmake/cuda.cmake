# The CUDA extension: a separate module, loaded at the first CUDA array, with a static runtime.
#
# ONEPASS_CUDA=AUTO builds it if nvcc works and prints a notice if not, ON requires it, OFF leaves it
# out, PYPI takes nvcc from wheels among the build requirements. ONEPASS_CUDA_ARCHS=all compiles for
# every GPU that is supported; CUDAARCHS or CMAKE_CUDA_ARCHITECTURES choose them; a single one makes a
# build quick.

function(onepass_without_cuda reason)
  if(ONEPASS_CUDA STREQUAL "AUTO")
    message(NOTICE "onepass: built without CUDA: ${reason}")
  else()
    message(FATAL_ERROR "ONEPASS_CUDA=${ONEPASS_CUDA}, but ${reason}")
  endif()
endfunction()

if(NOT ONEPASS_CUDA MATCHES "^(AUTO|ON|OFF|PYPI)$")
  message(FATAL_ERROR "ONEPASS_CUDA is '${ONEPASS_CUDA}', expected AUTO, ON, OFF or PYPI")
endif()
if(ONEPASS_CUDA STREQUAL "OFF")
  return()
endif()

if(ONEPASS_CUDA STREQUAL "PYPI")
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import glob, os, sys; print(next((c for d in sys.path for c in glob.glob(os.path.join(d, 'nvidia', 'cu1[0-9]', 'bin', 'nvcc'))), ''))"
    OUTPUT_VARIABLE pypi_nvcc OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(NOT pypi_nvcc)
    onepass_without_cuda("the wheels of nvidia-cuda-nvcc are not in the build environment")
  endif()
  set(CMAKE_CUDA_COMPILER "${pypi_nvcc}" CACHE FILEPATH "" FORCE)
  cmake_path(GET pypi_nvcc PARENT_PATH pypi_bin)
  cmake_path(GET pypi_bin PARENT_PATH pypi_root)
  set(CMAKE_CUDA_FLAGS_INIT "-L${pypi_root}/lib")  # the wheels have lib, nvcc looks in lib64
endif()

set(ONEPASS_LEAST_CUDA 12.1)  # the parameters of a launch may have 32,764 bytes from there on
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  onepass_without_cuda("no working CUDA compiler was found; put nvcc on PATH or set CUDACXX, or use ONEPASS_CUDA=PYPI.")
  return()
endif()

# Before enable_language, which fails in words of its own.
execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
if(nvcc_says MATCHES "release ([0-9]+\\.[0-9]+)" AND CMAKE_MATCH_1 VERSION_LESS ONEPASS_LEAST_CUDA)
  onepass_without_cuda("${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}, and ${ONEPASS_LEAST_CUDA} or later is needed; put a newer nvcc on PATH, set CUDACXX, or use ONEPASS_CUDA=PYPI.")
  return()
endif()

# Machine code for the GPUs of this machine. Where it has none, or all are asked for: for the first
# processor of each generation, whose code runs on the later ones, as far as the compiler knows it, and
# PTX of the newest for what comes after. CMake reads this before the first CUDA target.
set(asked_archs "$ENV{ONEPASS_CUDA_ARCHS}")
if(NOT asked_archs MATCHES "^(all)?$")
  message(FATAL_ERROR "ONEPASS_CUDA_ARCHS is '${asked_archs}', expected all, or nothing for the GPUs of this machine; CUDAARCHS takes a list")
endif()
set(given_archs "$ENV{CUDAARCHS}")
if(DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(given_archs "${CMAKE_CUDA_ARCHITECTURES}")
endif()
if(given_archs AND asked_archs)
  message(FATAL_ERROR "ONEPASS_CUDA_ARCHS=all, but CUDAARCHS or CMAKE_CUDA_ARCHITECTURES is '${given_archs}', expected one of them")
elseif(given_archs)
  set(CMAKE_CUDA_ARCHITECTURES ${given_archs})
  unset(ENV{CUDAARCHS})  # which CMake would keep for later builds
  set(onepass_whose "as CUDAARCHS or CMAKE_CUDA_ARCHITECTURES asks")
else()
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch OUTPUT_VARIABLE known_archs ERROR_QUIET)
  set(CMAKE_CUDA_ARCHITECTURES "")
  if(NOT asked_archs)
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE here RESULT_VARIABLE no_gpu ERROR_QUIET)
    if(no_gpu STREQUAL "0")
      string(REGEX MATCHALL "[0-9]+\\.[0-9]" here "${here}")
      foreach(gpu ${here})
        string(REPLACE "." "" gpu "${gpu}")
        if(known_archs MATCHES "compute_${gpu}[\r\n]")
          list(APPEND CMAKE_CUDA_ARCHITECTURES ${gpu}-real)
        endif()
      endforeach()
      list(REMOVE_DUPLICATES CMAKE_CUDA_ARCHITECTURES)
    endif()
  endif()
  set(onepass_whose "the GPUs of this machine; ONEPASS_CUDA_ARCHS=all is for every one")
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(onepass_whose "every GPU that onepass supports; CUDAARCHS=90-real is for one")
    foreach(arch 75 80 90 100 120)
      if(known_archs MATCHES "compute_${arch}[\r\n]")
        list(APPEND CMAKE_CUDA_ARCHITECTURES ${arch}-real)
        set(newest ${arch})
      endif()
    endforeach()
    if(NOT newest)
      onepass_without_cuda("${CMAKE_CUDA_COMPILER} knows no GPU that onepass supports (compute capability 7.5 and up).")
      return()
    endif()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
  endif()
endif()

# One architecture takes about nine minutes of one processor, PTX of the newest next to nothing more.
set(real_archs ${CMAKE_CUDA_ARCHITECTURES})
list(FILTER real_archs EXCLUDE REGEX "-virtual$")
list(LENGTH real_archs minutes)
cmake_host_system_information(RESULT processors QUERY NUMBER_OF_LOGICAL_CORES)
math(EXPR minutes "(9 * ${minutes} + ${processors} - 1) / ${processors}")
if(minutes LESS 3)
  set(minutes 3)  # the longest file
endif()
message(NOTICE "onepass: CUDA kernels for ${CMAKE_CUDA_ARCHITECTURES}: ${onepass_whose}. They take about ${minutes} minutes with ${processors} processors.")
set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # linked below: CMake's choice of the static one needs FindCUDAToolkit
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)

# Not FindCUDAToolkit, which refuses the layout of the wheels.
cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH nvcc_bin)
cmake_path(GET nvcc_bin PARENT_PATH nvcc_root)
find_library(ONEPASS_CUDART_STATIC cudart_static
  HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} "${nvcc_root}/lib" "${nvcc_root}/lib64"
        "${nvcc_root}/targets/x86_64-linux/lib" "${nvcc_root}/targets/sbsa-linux/lib")
find_path(ONEPASS_CUDART_INCLUDE cuda_runtime.h
  HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} "${nvcc_root}/include"
        "${nvcc_root}/targets/x86_64-linux/include" "${nvcc_root}/targets/sbsa-linux/include")
if(NOT ONEPASS_CUDART_STATIC OR NOT ONEPASS_CUDART_INCLUDE)
  onepass_without_cuda("the CUDA runtime (libcudart_static.a, cuda_runtime.h) was not found beside ${CMAKE_CUDA_COMPILER}; install the toolkit's cudart development package.")
  return()
endif()

# No contraction, IEEE division and square root: elementwise kernels give the same bits as the CPU.
set(cuda_flags -O3 --fmad=false --prec-div=true --prec-sqrt=true --expt-relaxed-constexpr
               --threads=2 -Xcompiler=-ffp-contract=off)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
  list(APPEND cuda_flags --compress-mode=size)
endif()
if(ONEPASS_WERROR)
  list(APPEND cuda_flags -Werror=all-warnings)
endif()

add_library(onepass_cuda OBJECT
  csrc/cuda/backend.cu csrc/cuda/bias.cu csrc/cuda/channel_norms.cu csrc/cuda/dropout.cu
  csrc/cuda/glu.cu csrc/cuda/host.cu csrc/cuda/losses.cu csrc/cuda/passes.cu
  csrc/cuda/pointwise_losses.cu csrc/cuda/row_norms.cu csrc/cuda/rows.cu
  csrc/cuda/windows.cu csrc/cuda/workspaces.cu
  ${formula_cuda_units})
# Those that include cuda/flushed.h.
set_source_files_properties(
  csrc/cuda/channel_norms.cu csrc/cuda/losses.cu csrc/cuda/passes.cu
  csrc/cuda/row_norms.cu csrc/cuda/rows.cu csrc/cuda/workspaces.cu ${formula_flushed_units}
  PROPERTIES COMPILE_OPTIONS --ftz=true)
target_include_directories(onepass_cuda PRIVATE csrc "${formula_include}")
target_compile_options(onepass_cuda PRIVATE ${cuda_flags})
set_target_properties(onepass_cuda PROPERTIES CUDA_VISIBILITY_PRESET hidden)

pybind11_add_module(_cuda MODULE NO_EXTRAS csrc/cuda/module.cpp $<TARGET_OBJECTS:onepass_cuda>)
set_target_properties(_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(_cuda PRIVATE csrc)
target_include_directories(_cuda SYSTEM PRIVATE "${ONEPASS_CUDART_INCLUDE}")
target_compile_options(_cuda PRIVATE -O2 ${warnings})
target_link_libraries(_cuda PRIVATE "${ONEPASS_CUDART_STATIC}" Threads::Threads ${CMAKE_DL_LIBS} rt)
target_link_options(_cuda PRIVATE -Wl,--exclude-libs,ALL $<$<CONFIG:Release>:-s>)
install(TARGETS _cuda DESTINATION onepass)
target_compile_definitions(_C PRIVATE ONEPASS_CUDA_BUILT=1)
