"""The rules of the house, read from the sources: who includes whom, vendor names, kernel labels, registries."""
import os, re, subprocess, sys

root = os.environ["VARION_SOURCE_DIR"]
bad = []


def sources(*folders):
    for folder in folders:
        for path, _, files in os.walk(os.path.join(root, folder)):
            for name in files:
                if name.endswith((".cpp", ".hpp")):
                    full = os.path.join(path, name)
                    yield os.path.relpath(full, root), open(full).read()


# Vendors: macros, headers, calls, types. Their libraries' names as words of a text are no harm.
vendor = re.compile(
    r"\b(?:KOKKOS_ENABLE_(?:CUDA|HIP|SYCL)\w*|__CUDA\w*|__HIP\w*|__NVCC__|__hip\w*"
    r"|(?:cuda|cublas|cudnn|cusparse|nccl|hip|hipblas|rocblas|rccl|miopen)(?:[A-Z_]\w*)|cblas_\w+|dnnl\w*)\b"
    r"|#\s*include\s*[<\"](?:cuda|cublas|cudnn|nccl|hip|rocblas|miopen|cblas|oneapi|mkl)[\w./]*")
for sample in ("#ifdef KOKKOS_ENABLE_CUDA", "#ifdef __CUDA_ARCH__", "#if __HIP_DEVICE_COMPILE__", "cudaMalloc(&p, 4)",
               "exec.cuda_stream()", "hipStream_t s;", "exec.hip_stream()", "cublasSgemm(h)", "cudnnHandle_t h;",
               "rocblas_sgemm(h)", "miopenHandle_t h;", "cblas_sgemm(a)", "dnnl::stream s;", "dnnl_sgemm(a)",
               "#include <cuda_runtime.h>", "#include <hip/hip_runtime.h>", "#include <cudnn.h>", "# include <oneapi/dnnl/dnnl.hpp>"):
    if not vendor.search(sample):
        bad.append(f"this test does not see the vendor in {sample}")
for sample in ("// cuDNN and CUDA graphs", "friendship", '"cuda"', "chip_count", '#include "core/hipster.hpp"'):
    if vendor.search(sample):
        bad.append(f"this test sees a vendor in {sample}")
for name, text in sources("src", "models", "io", "studies", "tests"):
    for word in vendor.findall(text):
        bad.append(f"{name} names a vendor: {word}")

allowed = {  # folder: what it may include besides itself
    "core": [], "backends": ["core"], "graph": ["core"], "ops": ["core", "graph", "backends"],
    "models": ["core", "graph", "ops"], "optim": ["core"], "io": ["core"], "data": ["core", "io"],
    "bench": ["core", "graph", "ops", "models", "optim", "data", "train", "backends", "io", "comm"], "comm": ["core", "backends"],
    "posterior": ["core", "graph", "optim", "io"],
}
for name, text in sources("src", "backends", "models", "io"):
    parts = name.split(os.sep)
    folder = parts[1] if parts[0] == "src" else parts[0]
    for included in re.findall(r'#include "(\w+)/', text):
        if folder in allowed and included != folder and included not in allowed[folder]:
            bad.append(f"{name} includes {included}/")
    if folder in ("models", "studies") and "Kokkos::" in text:
        bad.append(f"{name} uses Kokkos")
    for label in re.findall(r'(?:parallel_(?:for|reduce|scan)|for_blocks)\(\s*"([^"]*)"', text):
        if not re.fullmatch(r"varion::[a-z0-9_]+::[a-z0-9_]+", label):
            bad.append(f"{name}: label {label}")
    if folder != "io" and re.search(r"std::ofstream|\bfopen\(|O_WRONLY", text):
        bad.append(f"{name} opens a file for writing: only io/commit_file.cpp may")

# Files are compiled together, and for HIP clang 15 numbers the lambdas that belong to no function from one in every
# `namespace {`, then takes those of two files for the same: a function of the file (register_mlp()) makes them its own.
variable = re.compile(r"(?:static |inline )?(?:const|constexpr|auto) (?:[^({=;<]|<[^{=;]*>)*[{=]")
lambda_expression = re.compile(r"(?<![\w\])])\[[&=]?[\w, &=]*\]\s*(?:\([^()]*\)\s*)?(?:->\s*\w+\s*)?\{")


def loose_lambdas(text):
    found, inside = [], False
    for line in text.splitlines():
        if line[:1].strip() and line[0] not in "/#})":
            inside = variable.match(line)
        if inside and lambda_expression.search(line):
            found.append(line.strip())
    return found


for sample in ("const bool registered = Ops::of().add(\n    \"a\", {1, [](Graph& g) {\n       return 1;\n     }});\n",
               "const bool registered = [] {\n  return true;\n}();\n", "const std::function<int()> f{[] { return 1; }};\n"):
    if len(loose_lambdas(sample)) != 1:
        bad.append(f"this test does not see the lambda in {sample}")
for sample in ("bool f() {\n  return g([](int x) { return x; });\n}\nconst bool done = f();\n", "const int a[]{1, 2};\nint b[3] = {1};\n"):
    if loose_lambdas(sample):
        bad.append(f"this test sees a lambda of no function in {sample}")
for name, text in sources("src", "backends", "models", "io", "studies"):
    for found in loose_lambdas(text):
        bad.append(f"{name} has a lambda that belongs to no function: {found}")

info = subprocess.run([os.environ["VARION_BIN"], "info"], capture_output=True, text=True).stdout
for folder, kind in (("models", "models"), ("src/optim", "optimizers"), ("src/optim", "schedules"), ("src/data", "data sets"), ("src/ops", "ops")):
    entry = {"models": "Models", "optimizers": "Optimizers", "schedules": "Schedules", "data sets": "DataSets", "ops": "Ops"}[kind]
    named = set()
    for name, text in sources(folder):
        named |= set(re.findall(rf'{entry}::of\(\)\s*\.add\(\s*"([^"]+)"', text))
    line = re.search(rf"^{kind}\s+(.*)$", info, re.M)
    known = set(line.group(1).split(", ")) if line else set()
    if named != known or not named:
        bad.append(f"{folder} registers {sorted(named)}, the program knows {sorted(known)}")

print("\n".join(bad) or "style: all rules hold")
sys.exit(1 if bad else 0)
