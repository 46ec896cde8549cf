// The program's own options; models, optimizers and data sets add theirs in their own files.
#include "core/options.hpp"

namespace varion {

namespace {
using T = OptionSpec::Type;
const bool registered_option_table = add_options("", {
  {"run.name", T::text, "run", "name of the run"},
  {"run.dir", T::text, "runs/{name}", "directory of the run; {name} is replaced"},
  {"run.seed", T::integer, "1", "seed of every random number", {}, 0, 9e15},
  {"run.resume", T::choice, "auto", "continue from the newest valid checkpoint", {"auto", "never", "must"}},
  {"run.overwrite", T::flag, "false", "with run.resume=never: start afresh in a directory that holds a run"},
  {"run.walltime", T::text, "auto", "stop with a checkpoint before this much time (HH:MM:SS) is over; auto: Slurm's limit; or off"},
  {"run.watchdog", T::text, "auto", "end a run that makes no progress for so many seconds; auto: 600, steps less; or off"},
  {"model.name", T::text, "mlp", "network"},
  {"model.preset", T::text, "", "recipe that sets model, data and optimizer where nobody else does (see info)"},
  {"model.init", T::text, "random", "where weights start: random, or a posterior FILE.h5, or FILE.safetensors"},
  {"model.init_skip", T::text, "", "tensors that stay random all the same: beginnings of names, up to a dot (head,blocks.11)"},
  {"model.freeze", T::text, "", "tensors that are not trained: beginnings of names, up to a dot (they have no gradient, state or noise)"},
  {"model.init_hess", T::flag, "false", "the Hessian starts from that file, too"},
  {"data.name", T::text, "glyphs", "data set"},
  {"data.global_batch", T::integer, "50", "examples a step", {}, 1, 1e7},
  {"optim.name", T::text, "ivon", "optimizer"},
  {"optim.lr", T::real, "0.1", "learning rate", {}, 0, 1e9},
  {"optim.schedule", T::text, "cosine", "shape of the learning rate after the warm-up"},
  {"optim.warmup", T::text, "0st", "linear warm-up (steps `st` or epochs `ep`)"},
  {"optim.final_lr_frac", T::real, "0", "where cosine and linear end, as a share of lr", {}, 0, 1},
  {"optim.grad_clip", T::real, "0", "largest norm of a gradient: of the step's; with IVON and VON of every slot's (0: none)", {}, 0, 1e30},
  {"train.epochs", T::real, "10", "passes over the training set", {}, 0, 1e9},
  {"train.steps", T::integer, "0", "steps; when positive, instead of epochs", {}, 0, 1e15},
  {"train.precision", T::choice, "fp32", "of factors in GEMM, convolution and attention, with bf16 of what is between them too; tf32, bf16: NVIDIA GPUs only", {"fp32", "tf32", "bf16"}},
  {"train.capture", T::choice, "auto", "on GPUs: record a pass once and launch it as one piece",
   {"auto", "never"}},
  {"train.stop_on_nonfinite", T::flag, "true", "end with exit code 10 when a number is not finite"},
  {"train.spike_policy", T::choice, "off",
   "when loss or gradient norm leaps or is not finite: stop (exit code 10), skip the update, or rollback to the last checkpoint "
   "and pass the step over; all but off let the host wait for every step", {"off", "stop", "skip", "rollback"}},
  {"train.spike_sigma", T::real, "8", "a leap is so many standard deviations above the mean of the window", {}, 1, 1e9},
  {"train.spike_window", T::integer, "128", "clean steps looked back at; before they are there, nothing leaps", {}, 4, 4096},
  {"train.spike_limit", T::integer, "10", "more spikes than this among so many steps as the window end the run, exit code 10", {}, 0, 4096},
  {"train.stop_after", T::integer, "0", "stop with a checkpoint after this step, exit 75 (0: never)", {}, 0, 1e15},
  {"parallel.slots", T::text, "auto",
   "parts of a global batch, each with noise and sums of its own; ranks must divide them (auto: as many as ranks at the start)"},
  {"parallel.noise", T::choice, "per_slot", "weight samples of its own for every slot, or one for all (half the traffic)",
   {"per_slot", "shared"}},
  {"parallel.mode", T::choice, "reproducible", "sums in one fixed tree, the same bits on any number of ranks; or as MPI likes",
   {"reproducible", "fast"}},
  {"parallel.shard_posterior", T::flag, "false", "every rank keeps a part of mean, Hessian and moments; weights and gradient stay whole"},
  {"parallel.gpu_aware_mpi", T::choice, "auto", "give device memory to MPI: auto asks the MPI library, off copies through the host",
   {"auto", "on", "off"}},
  {"parallel.share_devices", T::flag, "false", "allow two ranks on one GPU"},
  {"eval.every", T::text, "1ep", "how often to evaluate at the mean (0st: only at the end)"},
  {"eval.samples", T::integer, "64", "posterior samples of the final evaluation", {}, 1, 65535},
  {"eval.batch", T::integer, "256", "examples a forward pass", {}, 1, 1e6},
  {"checkpoint.every", T::text, "10min", "how often to save: 500st, 2ep, 10min (0st: only at the end)"},
  {"checkpoint.best", T::text, "val/nll", "validation metric by which best.h5 is kept, or none"},
  {"checkpoint.parallel_io", T::flag, "false", "every rank writes its part of a checkpoint, on a file system that all of them see"},
  {"checkpoint.keep", T::integer, "2", "newest checkpoints kept", {}, 1, 1e6},
  {"log.every", T::text, "50st", "how often to write a record"},
  {"log.state_hash_every", T::text, "0st", "how often to write a hash of the whole state (0st: only into checkpoints)"},
  {"log.hess_stats_every", T::text, "1ep", "how often to write quantiles of hess and sigma"},
});
}  // namespace

}  // namespace varion
