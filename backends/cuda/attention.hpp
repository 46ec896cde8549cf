#pragma once

#include <initializer_list>

#include "backends/backend.hpp"

namespace varion::backend {

/// Whether tensor cores take this attention of `vectors`, which are read 16 bytes at a time, at the precision in use; else
/// portable does.
bool tensor_attention_takes(const Attention&, std::initializer_list<const Real*> vectors);
void tensor_attention_forward(const Exec&, const Attention&, ConstVec qkv, Vec y, Vec log_sum);
/// `along`: a word for every row and head.
void tensor_attention_backward(const Exec&, const Attention&, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                               Vec dqkv, Vec along);

/// The same with activations kept in bfloat16, whatever the precision of others; vectors must lie at 16 bytes.
bool tensor_attention_takes_bf16(const Attention&);
void tensor_attention_forward_bf16(const Exec&, const Attention&, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum);
void tensor_attention_backward_bf16(const Exec&, const Attention&, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy, ConstVec log_sum,
                                    bool add, Bf16Vec dqkv, Vec along);

}  // namespace varion::backend
