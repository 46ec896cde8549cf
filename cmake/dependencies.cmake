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
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)  # its code is in the header
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h REQUIRED)  # classes of characters, for tokenizers
find_library(UTF8PROC_LIBRARY utf8proc REQUIRED)
find_package(Threads REQUIRED)

include(providers)

add_library(varion_common INTERFACE)
target_include_directories(varion_common INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
target_include_directories(varion_common SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS} ${XXHASH_INCLUDE_DIR} ${UTF8PROC_INCLUDE_DIR})
target_link_libraries(varion_common INTERFACE Kokkos::kokkos Kokkos::kokkoskernels MPI::MPI_C
  ${HDF5_HL_LIBRARIES} ${HDF5_LIBRARIES} Boost::program_options ZLIB::ZLIB OpenSSL::Crypto nlohmann_json::nlohmann_json
  ${UTF8PROC_LIBRARY} Threads::Threads)
target_compile_definitions(varion_common INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)  # MPI's C interface only
target_include_directories(varion_common SYSTEM INTERFACE ${VARION_PROVIDER_INCLUDES})
target_link_libraries(varion_common INTERFACE ${VARION_PROVIDER_LIBRARIES})
# Kokkos' headers are not ours to warn about.
foreach(target Kokkos::kokkos Kokkos::kokkoscore Kokkos::kokkoscontainers Kokkos::kokkoskernels Catch2::Catch2)
  if(TARGET ${target})
    get_target_property(headers ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(headers)
      set_property(TARGET ${target} APPEND PROPERTY INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${headers})
    endif()
  endif()
endforeach()
