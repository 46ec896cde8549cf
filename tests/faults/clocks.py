"""L4: a wall clock that jumps, stands or runs backwards, and odd time zones, change no number, no order and no stop: the program
goes by steady time. A library that is loaded before the system's plays the clock."""
import os, shutil, subprocess

from whole_jobs import *

needs("gcc", "ldd")
if b"libasan" in subprocess.run(["ldd", VARION], capture_output=True).stdout:
    print("[skipped] the address sanitizer wants to be loaded before any other library")
    sys.exit(77)
work = workplace("clocks-test")
with open(f"{work}/clock.c", "w") as f:
    f.write('''#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long long shift(void) {  /* seconds: SHIFT once after some calls, or another one at every call */
  static long long calls;
  const char* s = getenv("CLOCK_SHIFT");
  const long long by = s ? atoll(s) : 0, n = calls++;
  if (getenv("CLOCK_WILD")) return n % 2 ? by : -by * (n % 7);
  return n < 3 ? 0 : by;
}
int clock_gettime(clockid_t id, struct timespec* t) {
  static int (*real)(clockid_t, struct timespec*);
  if (!real) real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const int r = real(id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += shift();
  return r;
}
time_t time(time_t* out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}
int gettimeofday(struct timeval* v, void* zone) {
  struct timespec t;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &t);
  v->tv_sec = t.tv_sec;
  v->tv_usec = t.tv_nsec / 1000;
  return 0;
}
''')
if subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", f"{work}/clock.so", f"{work}/clock.c", "-ldl"], capture_output=True).returncode != 0:
    print("[skipped] no shared library can be made here")
    sys.exit(77)
job = ["data.name=moons", "model.sizes=8", "train.steps=20", "eval.samples=2", "eval.every=4st", "log.every=1st", "checkpoint.every=3st",
       "data.val_size=40", "run.walltime=00:30:00", "run.watchdog=60"]


def train(name, *words, code=0, **more):
    p = subprocess.run([VARION, "-q", "train", *job, f"run.name={name}", *words], cwd=work, capture_output=True, text=True,
                       env=dict(environment, **more), timeout=120)
    return p.returncode == code and p.stderr == ""


assert train("whole")
expected, kept = digest(f"{work}/runs/whole"), sorted(os.listdir(f"{work}/runs/whole/checkpoints"))
YEARS, tried, failed, seen = 10 * 365 * 86400, 0, 0, set()
zones = ["UTC", "Pacific/Kiritimati", "Europe/Berlin", "NONSENSE+99", ":/nowhere", "<+0330>-3:30<+0430>"]
shifts = [(str(s), w) for s in (3600, -3600, 1, -1, YEARS, -YEARS) for w in (None, "1")]
for number, (by, wild) in enumerate(shifts if TIER != "C" else shifts[1:2] + shifts[8:11:2]):
    more = {"LD_PRELOAD": f"{work}/clock.so", "CLOCK_SHIFT": by, "TZ": zones[number % len(zones)], **({"CLOCK_WILD": wild} if wild else {})}
    name = f"jump-{number}"
    # Stopped and continued: the second run's clock may stand before the first one's.
    good = train(name, "train.stop_after=7", code=75, **more)
    with h5py.File(f"{work}/runs/{name}/checkpoints/step-0000000007.h5") as f:
        seen.add(f.attrs["date"][:4])
    good = good and train(name, **dict(more, CLOCK_SHIFT=str(-int(by)))) and digest(f"{work}/runs/{name}") == expected
    good = good and sorted(os.listdir(f"{work}/runs/{name}/checkpoints")) == kept
    tried += 1
    failed += not good
    if not good:
        print(by, wild, more["TZ"])
assert len(seen) > 1, f"the shifted clock is not seen: {seen}"
table("clocks that jump (L4)", [("runs with the same bits and checkpoints", tried, failed)])
