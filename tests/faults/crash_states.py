"""K6: what a machine that loses power may leave of a save. The calls of one step and its save are recorded; of every prefix,
writes that no fsync has made safe are kept, dropped, halved or zeroed, and names that no fsync of their folder has made safe are
kept or dropped. Each such directory must go on, from the generation before or the new one, to the bits of the unbroken run; once the
program has said that it stopped with a checkpoint, from the new one. And a close that fails is told."""
import hashlib, itertools, os, random, re, shutil, subprocess

from whole_jobs import *

needs("strace")
work = workplace("crash-states-test")
job = ["data.name=moons", "model.sizes=8", "train.steps=9", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=0st",
       "checkpoint.keep=1", "run.watchdog=off"]
CALLS = "openat,open,creat,close,write,writev,pwrite64,pwritev,fallocate,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir"


def train(folder, *words, before=()):
    return subprocess.run([*before, VARION, "-q", "train", *job, f"run.dir={folder}", *words], cwd=work, capture_output=True, text=True,
                          env=environment, timeout=60)


assert train(f"{work}/whole").returncode == 0
expected = digest(f"{work}/whole")
assert train(f"{work}/origin", "train.stop_after=4").returncode == 75
shutil.copytree(f"{work}/origin", f"{work}/run")
log = f"{work}/log"
assert train(f"{work}/run", "train.stop_after=5", before=["strace", "-f", "-xx", "-s", "100000000", "-o", log, "-e", f"trace={CALLS}"]).returncode == 75


def text_of(quoted):
    return bytes.fromhex(quoted.replace("\\x", ""))


class File:
    """What was written, in order: (kind, offset, bytes or length, is safe)."""
    def __init__(self, content=b""):
        self.content, self.ops = content, []


# The calls as events on files and names below the run's folder.
root, files, names, open_files, events, claim = f"{work}/run", {}, {}, {}, [], None
for folder, _, found in os.walk(f"{work}/origin"):
    for n in found:
        path = os.path.join(root, os.path.relpath(os.path.join(folder, n), f"{work}/origin"))
        names[path] = File(open(os.path.join(folder, n), "rb").read())
begin = dict(names)
now, position, halves = dict(names), {}, {}
for line in open(log):
    pid, call = line.rstrip("\n").split(None, 1)
    if call.endswith("<unfinished ...>"):
        halves[pid] = call[:-len("<unfinished ...>")].rstrip()
        continue
    resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
    if resumed:
        call = halves.pop(pid) + resumed[1]
    m = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", call)
    if not m or int(m[3]) < 0:
        continue
    what, words, result = m[1], m[2], int(m[3])
    strings = [text_of(s) for s in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', words)]
    fd = int(words.split(",")[0]) if re.match(r"\d+", words) else None
    if what in ("openat", "open", "creat"):
        path = os.path.normpath(strings[0].decode())
        open_files.pop(result, None)
        if not path.startswith(root):
            continue
        if os.path.isdir(path):
            open_files[result] = path
            continue
        if path not in now:
            now[path] = File()
            events.append(("name", os.path.dirname(path), path, now[path]))
        open_files[result] = now[path]
        position[result] = len(now[path].content) + sum(len(o[3]) for o in events if o[0] == "write" and o[1] is now[path]) if "O_APPEND" in words else 0
        if "O_TRUNC" in words or what == "creat":
            events.append(("truncate", now[path], 0))
        if claim is None and "/.status.json." in path and any(e[0] == "rename" and "step-0000000005" in e[3] for e in events):
            claim = len(events)
    elif what == "close":
        open_files.pop(fd, None)
    elif what.startswith(("rename", "unlink")):
        paths = [os.path.normpath(s.decode()) for s in strings]
        if not all(p.startswith(root) for p in paths):
            continue
        if what.startswith("rename"):
            events.append(("rename", os.path.dirname(paths[1]), paths[0], paths[1], now[paths[0]]))
            now[paths[1]] = now.pop(paths[0])
        else:
            events.append(("unlink", os.path.dirname(paths[0]), paths[0]))
            now.pop(paths[0], None)
    elif fd in open_files:
        target = open_files[fd]
        if what in ("fsync", "fdatasync"):
            events.append(("sync", target))
        elif what == "ftruncate":
            events.append(("truncate", target, int(words.split(",")[1])))
        elif what == "fallocate":
            events.append(("write", target, int(words.split(",")[2]), bytes(int(words.split(",")[3]))))
        elif "write" in what:
            data = b"".join(strings)[:result]
            at = int(words.rsplit(",", 1)[1]) if what.startswith("p") else position[fd]
            if not what.startswith("p"):
                position[fd] += result
            events.append(("write", target, at, data))
assert claim is not None and any(e[0] == "sync" for e in events), "the trace shows no save"
CARELESS = [f for p, f in {**begin, **now}.items() if os.path.basename(p) in ("log.txt", ".lock")]  # nothing rests on them


def pending(prefix):
    """Of the events before `prefix`, those that no fsync has made safe."""
    out = []
    for i, e in enumerate(events[:prefix]):
        if e[0] == "sync" or (e[0] in ("write", "truncate") and any(e[1] is f for f in CARELESS)):
            continue
        where = e[1]  # a file, or a folder's path
        if not any(s[0] == "sync" and (s[1] is where if isinstance(where, File) else s[1] == where) for s in events[i + 1:prefix]):
            out.append(i)
    return out


def state(prefix, fates):
    """name -> bytes; fates: event number -> drop, half or zero."""
    content, tree = {}, dict(begin)
    for i, e in enumerate(events[:prefix]):
        fate = fates.get(i, "keep")
        if fate == "drop" or e[0] == "sync":
            continue
        if e[0] == "name":
            tree[e[2]] = e[3]
        elif e[0] == "rename":
            tree.pop(e[2], None)
            tree[e[3]] = e[4]
        elif e[0] == "unlink":
            tree.pop(e[2], None)
        else:
            old = content.setdefault(id(e[1]), bytearray(e[1].content))
            if e[0] == "truncate":
                old[e[2]:] = bytes(max(0, e[2] - len(old)))
            else:
                data = e[3][:len(e[3]) // 2] if fate == "half" else bytes(len(e[3])) if fate == "zero" else e[3]
                old.extend(bytes(max(0, e[2] - len(old))))
                old[e[2]:e[2] + len(data)] = data
    return {name: bytes(content.get(id(f), f.content)) for name, f in tree.items()}


def choices(i):
    return ("keep", "drop", "half", "zero") if events[i][0] == "write" else ("keep", "drop")


draw, states, enumerated, all_of_them = random.Random(6), {}, 0, True
for prefix in range(len(events) + 1):
    open_ends = pending(prefix)
    total = 1
    for i in open_ends:
        total *= len(choices(i))
    plain = [{}, {i: "drop" for i in open_ends}] + [{i: c} for i in open_ends for c in choices(i)[1:]]
    plain += [{j: "drop" for j in open_ends if j != i} for i in open_ends]  # one alone has reached the disk
    if total <= 4096:
        every = [dict(zip(open_ends, c)) for c in itertools.product(*map(choices, open_ends))]
    else:
        all_of_them = False
        every = [{i: draw.choice(choices(i)) for i in open_ends} for _ in range(4096)]
    if TIER == "C":
        every = draw.sample(every, min(8, len(every)))
    for number, fates in enumerate(plain + every):
        enumerated += 1
        left = state(prefix, fates)
        key = hashlib.sha256(repr(sorted((n, hashlib.sha256(b).hexdigest()) for n, b in left.items())).encode()).digest() + bytes([prefix >= claim])
        states.setdefault(key, (left, prefix, fates, number < len(plain)))
some = list(states.values())
if len(some) > count(160, 4096, 20000):
    first, rest = [s for s in some if s[3]], [s for s in some if not s[3]]
    some = draw.sample(first, min(len(first), count(160, 4096, 20000)))
    some += draw.sample(rest, min(len(rest), count(160, 4096, 20000) - len(some)))
tried = {"before the end of the save": [0, 0], "after it": [0, 0]}
for left, prefix, fates, _ in some:
    folder = f"{work}/state"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/checkpoints")
    for name, data in left.items():
        with open(folder + name[len(root):], "wb") as f:
            f.write(data)
    p = train(folder, "run.resume=must")
    said = re.findall(r"^continuing from \S* at step (\d+)$", open(f"{folder}/log.txt").read(), re.M) if p.returncode == 0 else []
    good = p.returncode == 0 and said and int(said[-1]) in ((5,) if prefix >= claim else (4, 5)) and digest(folder) == expected
    row = tried["after it" if prefix >= claim else "before the end of the save"]
    row[0] += 1
    row[1] += not good
    if not good:
        print(prefix, events[prefix - 1][0], {i: (c, events[i][0]) for i, c in fates.items() if c != "keep"}, p.returncode, said[-1:], p.stderr[-200:])
assert all(t > 0 for t, _ in tried.values())

# A close that fails may have lost what was written: no checkpoint is made of it.
ALONE = ["unshare", "-p" if os.geteuid() == 0 else "-rp", "--fork", "--kill-child"]  # the program's number is known: names of its files are too
told = [0, 0]
if subprocess.run([*ALONE, "true"], capture_output=True).returncode == 0:
    shutil.rmtree(f"{work}/run")
    shutil.copytree(f"{work}/origin", f"{work}/run")
    assert train(f"{work}/run", "train.stop_after=5", before=[*ALONE, "strace", "-f", "-o", log, "-e", "trace=openat"]).returncode == 75
    part = re.search(r'"(\S*/checkpoints/\.step-0000000005\S*\.tmp)"', open(log).read())[1]
    shutil.rmtree(f"{work}/run")
    shutil.copytree(f"{work}/origin", f"{work}/run")
    p = train(f"{work}/run", "train.stop_after=5", before=[*ALONE, "strace", "-f", "-o", log, "-P", part, "-e", "inject=close:error=EIO:when=1"])
    told = [1, int(p.returncode != 74 or "cannot close" not in p.stderr or not os.path.exists(f"{work}/run/checkpoints/step-0000000004.h5"))]
    if told[1]:
        print(p.returncode, p.stderr)
kind = "states" if all_of_them and TIER != "C" else "sampled states"
table(f"crash states of one save: {len(events)} events, {enumerated} {kind}, {len(states)} different, {len(some)} tried (K6)",
      [(k, *v) for k, v in tried.items()] + [("a close that fails is told", *told)])
