// Weights that a run starts from: model.init = FILE.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/layout.hpp"
#include "io/safetensors.hpp"
#include "optim/optimizer.hpp"

namespace varion {

/// Tensors of a posterior file or a safetensors file, and the Hessians of those that have one.
struct WeightFile {
  std::vector<io::NamedTensor> tensors;
  std::vector<io::NamedTensor> hess;  // of those that have one, under the same names
};

/// FILE.h5 or FILE.safetensors. GPT-2's get the names and shapes they have here (gpt2_names). Errors: 78 another ending; those
/// of the readers.
WeightFile read_weights(const std::string& path);

/// GPT-2 as Hugging Face's or nanoGPT's files have it: without `transformer.`, linear weights as [out, in] (Hugging Face stores
/// [in, out]), without the causal masks and without a head that is the token table again. Other tensors stay as they are.
void gpt2_names(std::vector<io::NamedTensor>& tensors);

/// Which tensor each parameter takes, the trained ones first, then the frozen ones, by name and shape; -1 where a trained one beside
/// frozen ones is not in the file, and where `skip` (beginnings of names, up to a dot) leaves it as it was
/// drawn. Biases that are zero and that the model does not have are passed over. Errors: 65 a parameter without tensor, a
/// tensor without parameter, another shape; 78 a word of `skip` that fits nothing.
std::vector<int> match_tensors(const WeightFile& file, const std::string& path, const Layout& layout, const std::vector<std::string>& skip);

/// Replaces the optimizer's mean, and with model.init_hess its Hessian, by what model.init names. Collective: the first rank
/// reads. Says what was done. Errors: as above; 65 no Hessian in the file, or one that is not positive; 78 the optimizer has none.
/// The frozen parameters take theirs, too; without an optimizer they alone do.
std::string take_start_values(const Config& config, const Layout& layout, Optimizer* optimizer, const Comm& comm);

}  // namespace varion
