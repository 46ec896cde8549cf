# Vendors' libraries: each that is found gets a name of VARION_PROVIDERS, which is a file of the back end's folder.
set(VARION_PROVIDERS "")
set(VARION_PROVIDER_INCLUDES "")
set(VARION_PROVIDER_LIBRARIES "")
function(varion_provider name header)
  cmake_parse_arguments(PARSE_ARGV 2 find "" "" "LIBRARIES;HINTS;SUFFIXES")
  string(TOUPPER ${name} upper)
  set(root "${find_HINTS}")
  find_library(VARION_${upper}_LIBRARY NAMES ${find_LIBRARIES} HINTS ${root} PATH_SUFFIXES lib64 lib ${find_SUFFIXES})
  find_path(VARION_${upper}_INCLUDE ${header} HINTS ${root} PATH_SUFFIXES include ${find_SUFFIXES})
  if(VARION_${upper}_LIBRARY AND VARION_${upper}_INCLUDE)
    set(VARION_PROVIDERS ${VARION_PROVIDERS} ${name} PARENT_SCOPE)
    set(VARION_PROVIDER_INCLUDES ${VARION_PROVIDER_INCLUDES} ${VARION_${upper}_INCLUDE} PARENT_SCOPE)
    set(VARION_PROVIDER_LIBRARIES ${VARION_PROVIDER_LIBRARIES} ${VARION_${upper}_LIBRARY} PARENT_SCOPE)
  endif()
endfunction()

set(arch ${CMAKE_LIBRARY_ARCHITECTURE})
if(VARION_GPU STREQUAL cuda)
  find_package(CUDAToolkit REQUIRED)
  varion_provider(cublas cublas_v2.h LIBRARIES cublas libcublas.so.13 libcublas.so.12
    HINTS $ENV{CUBLAS_ROOT} ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_INCLUDE_DIRS})
  if(cublas IN_LIST VARION_PROVIDERS)  # the provider with cuDNN multiplies with cuBLAS
    varion_provider(cudnn cudnn.h LIBRARIES cudnn libcudnn.so.9
      HINTS $ENV{CUDNN_ROOT} ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_INCLUDE_DIRS})
  endif()
elseif(VARION_GPU STREQUAL hip)
  set(rocm $ENV{ROCM_PATH} /opt/rocm)
  varion_provider(rocblas rocblas/rocblas.h LIBRARIES rocblas HINTS ${rocm})
  if(rocblas IN_LIST VARION_PROVIDERS)
    varion_provider(miopen miopen/miopen.h LIBRARIES MIOpen HINTS ${rocm})
  endif()
else()
  # A BLAS with a C interface: OpenBLAS first, then what calls itself cblas.
  varion_provider(host_blas cblas.h LIBRARIES openblas blis cblas
    SUFFIXES openblas-openmp blis-openmp openblas ${arch} ${arch}/openblas-openmp)
  # Looked for by its files: Debian's dnnl-config.cmake wants OpenCL's headers too.
  varion_provider(onednn oneapi/dnnl/dnnl.hpp LIBRARIES dnnl)
endif()
