// Signals that end a run early: at the next step boundary, with a checkpoint.
#pragma once

namespace varion {

/// From here on SIGUSR1, SIGUSR2, SIGTERM, SIGINT and SIGHUP (not under nohup) ask to stop; a second SIGINT ends at once (130).
/// A reader of the output who leaves (SIGPIPE) and a file-size limit (SIGXFSZ) end nothing: the latter becomes an error of the write.
void install_signal_handlers();

/// Whether one has come.
bool stop_requested();

}  // namespace varion
