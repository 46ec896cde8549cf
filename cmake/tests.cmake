# tests/<kind>/*.cpp become the program test_<kind>, and every file in it a ctest <kind>.<file> with
# the label <kind>. tests/<kind>/*.py run with the system's Python, which has h5py. The label
# `campaign` is for what takes long; scripts/test.sh leaves it out.
find_package(Catch2 REQUIRED)
find_program(VARION_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
get_target_property(catch_headers Catch2::Catch2 INTERFACE_INCLUDE_DIRECTORIES)
set_property(TARGET Catch2::Catch2 APPEND PROPERTY INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${catch_headers})
file(GLOB support CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.cpp)
if(NOT support OR NOT TARGET varion)
  message(STATUS "No tests: they need tests/support/*.cpp and src/app/main.cpp")
  return()
endif()
add_library(varion_test_support OBJECT ${support})
target_link_libraries(varion_test_support PUBLIC varion_common Catch2::Catch2)
target_include_directories(varion_test_support PUBLIC ${CMAKE_SOURCE_DIR}/tests)

set(environment "VARION_BIN=$<TARGET_FILE:varion>;VARION_SOURCE_DIR=${CMAKE_SOURCE_DIR};OMP_NUM_THREADS=2;OMP_PROC_BIND=false")
# mpirun refuses root and more ranks than cores unless told otherwise.
list(APPEND environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1)
file(GLOB kinds CONFIGURE_DEPENDS LIST_DIRECTORIES true ${CMAKE_SOURCE_DIR}/tests/*)
foreach(folder ${kinds})
  get_filename_component(kind ${folder} NAME)
  if(NOT IS_DIRECTORY ${folder} OR "${kind}" MATCHES "^(support|fuzz)$")
    continue()
  endif()
  # MPI never gives back all it takes, from plugins that are gone at the end; and leaks cannot be looked for under strace.
  set(kind_environment ${environment})
  if(VARION_SANITIZE MATCHES address AND "${kind}" MATCHES "^(mpi|faults)$")
    list(APPEND kind_environment ASAN_OPTIONS=detect_leaks=0)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  if(sources)
    add_executable(test_${kind} ${sources} $<TARGET_OBJECTS:varion_test_support>)
    target_link_libraries(test_${kind} PRIVATE varion_all Catch2::Catch2)
    target_include_directories(test_${kind} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    add_dependencies(test_${kind} varion)
  endif()
  foreach(source ${sources})
    get_filename_component(file ${source} NAME_WE)
    # Tests of ranks are started on four of them.
    set(launcher)
    if("${kind}" STREQUAL "mpi")
      set(launcher ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} 4)
    endif()
    add_test(NAME ${kind}.${file} COMMAND ${launcher} $<TARGET_FILE:test_${kind}> -\# "[\#${file}]")
    set_tests_properties(${kind}.${file} PROPERTIES LABELS ${kind} TIMEOUT 600
      ENVIRONMENT "${kind_environment}" SKIP_REGULAR_EXPRESSION "\\[skipped\\]")
  endforeach()
  file(GLOB scripts CONFIGURE_DEPENDS ${folder}/*.py)
  list(FILTER scripts EXCLUDE REGEX "/common\\.py$")  # what a folder's tests share
  foreach(script ${scripts})
    get_filename_component(file ${script} NAME_WE)
    add_test(NAME ${kind}.${file} COMMAND ${VARION_PYTHON} ${script})
    set_tests_properties(${kind}.${file} PROPERTIES LABELS ${kind} TIMEOUT 900
      ENVIRONMENT "${kind_environment}" SKIP_RETURN_CODE 77)
  endforeach()
endforeach()
