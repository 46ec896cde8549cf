// What miopen.cpp calls, as MIOpen declares it (AMD, MIOpen API reference, 3.x): where the library is missing, that file is compiled against this,
// so that it does not rot, and linked to nothing. Values of enumerations are the library's own business.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstddef>
#include <cstdint>

using miopenHandle_t = struct miopenHandle*;
using miopenTensorDescriptor_t = struct miopenTensorDescriptor*;
using miopenConvolutionDescriptor_t = struct miopenConvolutionDescriptor*;
using miopenAcceleratorQueue_t = hipStream_t;
enum miopenStatus_t { miopenStatusSuccess };
enum miopenDataType_t { miopenFloat };
enum miopenConvolutionMode_t { miopenConvolution };
enum miopenConvAlgorithm_t { miopenConvolutionAlgoGEMM };
enum miopenConvolutionAttrib_t { MIOPEN_CONVOLUTION_ATTRIB_FP16_ALT_IMPL, MIOPEN_CONVOLUTION_ATTRIB_DETERMINISTIC };
struct miopenConvSolution_t {
  float time;
  size_t workspace_size;
  std::uint64_t solution_id;
  miopenConvAlgorithm_t algorithm;
};

extern "C" {
const char* miopenGetErrorString(miopenStatus_t);
miopenStatus_t miopenGetVersion(size_t* major, size_t* minor, size_t* patch);
miopenStatus_t miopenCreate(miopenHandle_t*);
miopenStatus_t miopenSetStream(miopenHandle_t, miopenAcceleratorQueue_t);
miopenStatus_t miopenCreateTensorDescriptor(miopenTensorDescriptor_t*);
miopenStatus_t miopenSetTensorDescriptor(miopenTensorDescriptor_t, miopenDataType_t, int rank, const int* extents, const int* strides);
miopenStatus_t miopenCreateConvolutionDescriptor(miopenConvolutionDescriptor_t*);
miopenStatus_t miopenInitConvolutionDescriptor(miopenConvolutionDescriptor_t, miopenConvolutionMode_t, int pad_h, int pad_w, int stride_h,
                                               int stride_w, int dilation_h, int dilation_w);
miopenStatus_t miopenSetConvolutionAttribute(miopenConvolutionDescriptor_t, miopenConvolutionAttrib_t, int value);

miopenStatus_t miopenConvolutionForwardGetSolution(miopenHandle_t, miopenTensorDescriptor_t w, miopenTensorDescriptor_t x,
                                                   miopenConvolutionDescriptor_t, miopenTensorDescriptor_t y, size_t most, size_t* count,
                                                   miopenConvSolution_t*);
miopenStatus_t miopenConvolutionForwardCompileSolution(miopenHandle_t, miopenTensorDescriptor_t w, miopenTensorDescriptor_t x,
                                                       miopenConvolutionDescriptor_t, miopenTensorDescriptor_t y, std::uint64_t id);
miopenStatus_t miopenConvolutionForwardImmediate(miopenHandle_t, miopenTensorDescriptor_t w_form, const void* w, miopenTensorDescriptor_t x_form,
                                                 const void* x, miopenConvolutionDescriptor_t, miopenTensorDescriptor_t y_form, void* y,
                                                 void* workspace, size_t bytes, std::uint64_t id);
miopenStatus_t miopenConvolutionBackwardDataGetSolution(miopenHandle_t, miopenTensorDescriptor_t dy, miopenTensorDescriptor_t w,
                                                        miopenConvolutionDescriptor_t, miopenTensorDescriptor_t dx, size_t most, size_t* count,
                                                        miopenConvSolution_t*);
miopenStatus_t miopenConvolutionBackwardDataCompileSolution(miopenHandle_t, miopenTensorDescriptor_t dy, miopenTensorDescriptor_t w,
                                                            miopenConvolutionDescriptor_t, miopenTensorDescriptor_t dx, std::uint64_t id);
miopenStatus_t miopenConvolutionBackwardDataImmediate(miopenHandle_t, miopenTensorDescriptor_t dy_form, const void* dy,
                                                      miopenTensorDescriptor_t w_form, const void* w, miopenConvolutionDescriptor_t,
                                                      miopenTensorDescriptor_t dx_form, void* dx, void* workspace, size_t bytes,
                                                      std::uint64_t id);
miopenStatus_t miopenConvolutionBackwardWeightsGetSolution(miopenHandle_t, miopenTensorDescriptor_t dy, miopenTensorDescriptor_t x,
                                                           miopenConvolutionDescriptor_t, miopenTensorDescriptor_t dw, size_t most,
                                                           size_t* count, miopenConvSolution_t*);
miopenStatus_t miopenConvolutionBackwardWeightsCompileSolution(miopenHandle_t, miopenTensorDescriptor_t dy, miopenTensorDescriptor_t x,
                                                               miopenConvolutionDescriptor_t, miopenTensorDescriptor_t dw, std::uint64_t id);
miopenStatus_t miopenConvolutionBackwardWeightsImmediate(miopenHandle_t, miopenTensorDescriptor_t dy_form, const void* dy,
                                                         miopenTensorDescriptor_t x_form, const void* x, miopenConvolutionDescriptor_t,
                                                         miopenTensorDescriptor_t dw_form, void* dw, void* workspace, size_t bytes,
                                                         std::uint64_t id);
}
