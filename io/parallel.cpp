#include "io/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace varion::io {

void for_parts(size_t count, const std::function<void(size_t)>& part) {
  std::atomic<size_t> next{0};
  std::mutex lock;
  std::exception_ptr error;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) try {
        part(i);
      } catch (...) {
        next = count;
        const std::lock_guard<std::mutex> hold(lock);
        if (!error) error = std::current_exception();
      }
  };
  std::vector<std::thread> helpers;
  const size_t threads = std::min<size_t>({count, std::max(1u, std::thread::hardware_concurrency()), 16});
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads to be had: fewer do the same
  }
  work();
  for (std::thread& t : helpers) t.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace varion::io
