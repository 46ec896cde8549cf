// A host has no launches to save.
#include "backends/capture.hpp"

#include "core/error.hpp"

namespace varion::backend {

struct Capture::Impl {};

Exec separate_exec() { return Exec(); }
bool Capture::supported() { return false; }
Capture::Capture() = default;
Capture::~Capture() = default;
bool Capture::ready() const { return false; }
void Capture::begin(const Exec&) { ensure(false, "work on ", Exec::name(), " cannot be recorded"); }
void Capture::end() { ensure(false, "work on ", Exec::name(), " cannot be recorded"); }
void Capture::launch(const Exec&) const { ensure(false, "nothing was recorded"); }

}  // namespace varion::backend
