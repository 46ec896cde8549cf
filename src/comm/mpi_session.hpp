// MPI's start and end in this process.
#pragma once

#include <string>

namespace varion {

/// MPI from here to the end of its life, where a launcher (mpirun, srun) started the program; else nothing: a single
/// process needs no MPI. Errors (69): the launcher started several processes but this program's MPI knows of one.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  static bool is_running();
  /// The library and its version, in one line. Needs no session.
  static std::string library();
  /// This process' rank among all, and their number; 0 and 1 without MPI. Not collective.
  static int rank();
  static int size();
  /// From here on a rank may leave: the program has done its work. Before, whatever ends a rank with a code of its own (exit,
  /// MPI_Finalize, the end of main) ends all ranks with code 70, for the others would wait for it for ever.
  static void may_end();
  /// How long the end itself, where ranks wait for each other, may take: seconds; 0: 600; below 0: no limit.
  static void limit_end(double seconds);
  /// Ends all ranks with this exit code, because this one cannot go on; returns where there is one rank only. Not
  /// collective.
  static void abort(int code);
};

}  // namespace varion
