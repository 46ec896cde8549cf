# A Kokkos of the user's (module, Spack, Kokkos_ROOT) comes first, then the one scripts/setup.sh built.
set(VARION_DEPS ${CMAKE_SOURCE_DIR}/.deps)
if(DEFINED ENV{VARION_DEPS})
  set(VARION_DEPS $ENV{VARION_DEPS})
endif()
find_package(Kokkos QUIET)
if(NOT Kokkos_FOUND)
  file(GLOB prefix ${VARION_DEPS}/kokkos-*-${VARION_KOKKOS})
  find_package(Kokkos QUIET PATHS ${prefix} NO_DEFAULT_PATH)
  find_package(KokkosKernels QUIET PATHS ${prefix} NO_DEFAULT_PATH)
else()
  find_package(KokkosKernels QUIET)
endif()
if(NOT Kokkos_FOUND OR NOT KokkosKernels_FOUND)
  message(FATAL_ERROR "Kokkos or Kokkos Kernels not found: run scripts/setup.sh ${VARION_FLAVOUR}, "
    "or load your cluster's modules and set Kokkos_ROOT and KokkosKernels_ROOT")
endif()
set(VARION_GPU "")  # cuda, hip, or nothing: what this Kokkos runs kernels on
foreach(name CUDA HIP)
  if("${name}" IN_LIST Kokkos_DEVICES)
    string(TOLOWER ${name} VARION_GPU)
  endif()
endforeach()

find_package(MPI REQUIRED COMPONENTS C)
set(HDF5_PREFER_PARALLEL ON)
find_package(HDF5 REQUIRED COMPONENTS C HL)
find_package(Boost REQUIRED COMPONENTS program_options)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(nlohmann_json REQUIRED)
find_package(Threads REQUIRED)

# A host BLAS with a C interface: OpenBLAS first, then whatever pkg-config calls cblas.
# GPU builds use neither this nor oneDNN.
find_library(VARION_BLAS_LIBRARY NAMES openblas blis cblas
  PATH_SUFFIXES openblas-openmp blis-openmp)
find_path(VARION_BLAS_INCLUDE cblas.h
  PATH_SUFFIXES openblas ${CMAKE_LIBRARY_ARCHITECTURE} ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp)
set(VARION_HOST_BLAS OFF)
if(VARION_BLAS_LIBRARY AND VARION_BLAS_INCLUDE AND NOT VARION_GPU)
  set(VARION_HOST_BLAS ON)
endif()

# oneDNN: convolution and GEMM on a host. Looked for by its files: Debian's dnnl-config.cmake wants OpenCL's headers too.
find_library(VARION_ONEDNN_LIBRARY dnnl)
find_path(VARION_ONEDNN_INCLUDE oneapi/dnnl/dnnl.hpp)
set(VARION_ONEDNN OFF)
if(VARION_ONEDNN_LIBRARY AND VARION_ONEDNN_INCLUDE AND NOT VARION_GPU)
  set(VARION_ONEDNN ON)
endif()

add_library(varion_common INTERFACE)
target_include_directories(varion_common INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_include_directories(varion_common SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(varion_common INTERFACE Kokkos::kokkos Kokkos::kokkoskernels MPI::MPI_C
  ${HDF5_HL_LIBRARIES} ${HDF5_LIBRARIES} Boost::program_options ZLIB::ZLIB OpenSSL::Crypto nlohmann_json::nlohmann_json
  Threads::Threads)
if(VARION_HOST_BLAS)
  target_include_directories(varion_common SYSTEM INTERFACE ${VARION_BLAS_INCLUDE})
  target_link_libraries(varion_common INTERFACE ${VARION_BLAS_LIBRARY})
endif()
if(VARION_ONEDNN)
  target_include_directories(varion_common SYSTEM INTERFACE ${VARION_ONEDNN_INCLUDE})
  target_link_libraries(varion_common INTERFACE ${VARION_ONEDNN_LIBRARY})
endif()
# Kokkos' headers are not ours to warn about.
foreach(target Kokkos::kokkos Kokkos::kokkoscore Kokkos::kokkoscontainers Kokkos::kokkoskernels Catch2::Catch2)
  if(TARGET ${target})
    get_target_property(headers ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(headers)
      set_property(TARGET ${target} APPEND PROPERTY INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${headers})
    endif()
  endif()
endforeach()
