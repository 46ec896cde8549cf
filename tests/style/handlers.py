"""L6: the handler of stop signals sets a flag and calls nothing but _exit, in the sources and in the machine code; those
of a process that is about to end write where it stands by calls that take no memory once they have been called before."""
import os, re, shutil, subprocess, sys

may_call = {"on_signal": {"_exit"}, "print_stack": {"backtrace", "backtrace_symbols_fd", "__stack_chk_fail"},
            "on_end_too_long": {"write", "_exit"}}
bad, handlers = [], set()
for path, _, files in os.walk(os.path.join(os.environ["VARION_SOURCE_DIR"], "src")):
    for name in files:
        text = open(os.path.join(path, name)).read()
        handlers |= set(re.findall(r"(?:std::signal\(\s*\w+\s*,\s*|sa_handler\s*=\s*|sa_sigaction\s*=\s*)(\w+)", text))
handlers -= {"SIG_IGN", "SIG_DFL"}
if handlers != set(may_call):
    bad.append(f"signal handlers are {sorted(handlers)}, this test knows {sorted(may_call)}")
if not shutil.which("objdump"):
    print("[skipped] no objdump")
    sys.exit(77)
code = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", os.environ["VARION_BIN"]], capture_output=True, text=True).stdout
for handler in sorted(handlers):
    body = re.search(rf"^[0-9a-f]+ <{handler}>:\n((?:.+\n)+)", code, re.M)
    if not body:
        bad.append(f"{handler} is not in the program")
        continue
    # Jumps within the function carry its own name.
    targets = {t.split("@")[0] for t in re.findall(r"\b(?:call|jmp|j[a-z]+)\s+(?:[0-9a-f]+ )?<([^>+]+)(?:\+0x[0-9a-f]+)?>", body[1])}
    outside = {t for t in targets if t != handler and not t.startswith(("__asan", "__ubsan", "__sanitizer"))}
    if not outside <= may_call[handler] or re.search(r"\b(?:call|jmp)\s+\*", body[1]):
        bad.append(f"{handler} calls {sorted(outside)}, may call {sorted(may_call[handler])}")
print("\n".join(bad) or "handlers: a flag and _exit, a stack and the end")
sys.exit(1 if bad else 0)
