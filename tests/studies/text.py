"""Text on the command line: data info and check, convert and decode, what they refuse; with VARION_TEST_DATA also real books."""
import hashlib, json, lzma, os, pty, re, shutil, struct, subprocess, sys, time

VARION = os.environ["VARION_BIN"]
work = os.path.abspath("text-program-test")
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work + "/folder")


def run(*words, code=0, **more):
    p = subprocess.run([VARION, *words], cwd=work, capture_output=True, text=True, **more)
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    if code:
        assert len(p.stderr.splitlines()) == 1, p.stderr
    return p.stdout + p.stderr


def put(name, content):
    with open(f"{work}/{name}", "wb") as f:
        f.write(content.encode() if isinstance(content, str) else content)


def get(name):
    with open(f"{work}/{name}", "rb") as f:
        return f.read()


# A vocabulary in which "ab" and " ab" are tokens, and a text in two files, whose cut goes through a character and a word.
seen = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
hidden = [b for b in range(256) if b not in seen]
letter = {b: chr(b) for b in seen} | {b: chr(256 + k) for k, b in enumerate(hidden)}
tokens = [letter[b] for b in range(256)] + ["ab", letter[32] + "ab", "<|endoftext|>"]
os.makedirs(work + "/vocabulary")
put("vocabulary/encoder.json", json.dumps({t: k for k, t in enumerate(tokens)}))
put("vocabulary/vocab.bpe", f"#version: 0.2\na b\n{letter[32]} ab\n")
text = "ab ab caf\u00e9 a b\n" * 3000 + "\u6f22ab\n"
whole = text.encode()
put("folder/b.txt", whole[9:])
put("folder/a.txt", whole[:9])

said = run("data", "convert", "folder", "out/t.bin", "--vocab=vocabulary")
ids = struct.unpack(f"<{os.path.getsize(work + '/out/t.bin') // 2}H", get("out/t.bin"))
assert f"{len(ids)} tokens in 1 file" in said, said
assert ids[:9] == (256, 257, 32, 99, 97, 102, 0xc3, 0xa9, 32), ids[:9]
assert get("out/t.tokenizer").decode() == f"gpt2:{work}/vocabulary\n", get("out/t.tokenizer")
run("data", "decode", "out/t.bin", "back.txt")
assert get("back.txt") == whole
assert "is there" in run("data", "decode", "out/t.bin", "back.txt", code=73)
run("data", "decode", "out/t.bin", "back.txt", "--force")
assert "'out/t.tokenizer' is there: take another name, or --force" in run("data", "convert", "folder", "out/t.bin", "--vocab=vocabulary", code=73)
run("-q", "data", "convert", "folder", "out/t.bin", "--vocab=vocabulary", "--format=llmc", "--force")
assert struct.unpack("<3i", get("out/t.bin")[:12]) == (20240520, 1, len(ids)) and len(get("out/t.bin")) == 1024 + 2 * len(ids)
said = run("data", "convert", "folder", "out/s.bin", "--vocab=vocabulary", "--shard-tokens=9000")
shards = sorted(n for n in os.listdir(work + "/out") if n.startswith("s_"))
assert shards == [f"s_{k:06d}.bin" for k in range(len(shards))] and f"in {len(shards)} files" in said, (shards, said)
assert [len(get(f"out/{n}")) for n in shards[:-1]] == [18000] * (len(shards) - 1)
run("data", "decode", "out/s_*.bin", "again.txt", "--vocab=out/s.tokenizer")
assert get("again.txt") == whole
run("data", "convert", "folder", "out/c.bin", "--tokenizer=chars")
assert get("out/c.tokenizer").decode() == 'chars:"\\n abcf\u00e9\u6f22"\n', get("out/c.tokenizer")
put("more.txt", "abba\n")
run("data", "convert", "more.txt", "out/d.bin", "--vocab=out/c.tokenizer")  # the same alphabet
assert struct.unpack("<5H", get("out/d.bin")) == (2, 3, 3, 2, 0)
# The token of a text's end before every file: no word goes from one file to the next ("a" and "b" at a border stay two tokens).
end = len(tokens) - 1
os.makedirs(work + "/texts")
put("texts/1.txt", "ab a")
put("texts/2.txt", "b ab\n" * 3)
put("texts/3.txt", "")
put("texts/4.txt", "c")
run("data", "convert", "texts", "out/j.bin", "--vocab=vocabulary")
assert struct.unpack("<11H", get("out/j.bin")) == (256, 257, 257, 10, 98, 257, 10, 98, 257, 10, 99)
said = run("data", "convert", "texts", "out/m.bin", "--vocab=vocabulary", "--end-of-text")
assert "16 tokens" in said and struct.unpack("<16H", get("out/m.bin")) == (end, 256, 32, 97, end, 98, 257, 10, 98, 257, 10, 98, 257, 10, end, 99), get("out/m.bin")
run("data", "decode", "out/m.bin", "marked.txt")
assert get("marked.txt").decode() == "<|endoftext|>ab a<|endoftext|>" + "b ab\n" * 3 + "<|endoftext|>c"
run("data", "convert", "texts/4.txt", "out/o.bin", "--vocab=vocabulary", "--end-of-text")
assert struct.unpack("<2H", get("out/o.bin")) == (end, 99)
os.makedirs(work + "/long")
put("long/1.txt", "ab " * 3000000 + "a")  # more than is read at a time
put("long/2.txt", "b")
run("data", "convert", "long", "out/l.bin", "--vocab=vocabulary", "--end-of-text")
ids = get("out/l.bin")
assert struct.unpack("<3H", ids[:6]) == (end, 256, 257) and struct.unpack("<5H", ids[-10:]) == (257, 32, 97, end, 98), ids[-10:]
put("any.bin", bytes(range(256)))
run("data", "convert", "any.bin", "out/e.bin", "--tokenizer=bytes")
assert struct.unpack("<256H", get("out/e.bin")) == tuple(range(256))

# A file much larger than what reading it takes; on a terminal a bar says how far it is, and goes away.
def peak_of(*words):
    """Largest resident memory of a command, MB (no less than this Python's), what it says on a terminal, and seconds."""
    terminal, there = pty.openpty()
    begin = time.time()
    p = subprocess.Popen([VARION, *words], cwd=work, stdout=subprocess.DEVNULL, stderr=there)
    os.close(there)
    said = b""
    try:
        while part := os.read(terminal, 1 << 16):
            said += part
    except OSError:  # Linux tells the end of a terminal so
        pass
    os.close(terminal)
    _, status, used = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    assert status == 0, (words, status, said)
    return used.ru_maxrss / 1024, said.decode(), time.time() - begin


with open(work + "/large.txt", "wb") as f:
    for part in range(12):
        f.write(bytes(range(256)) * (1 << 15))
small, _, _ = peak_of("data", "convert", "any.bin", "out/small.bin", "--tokenizer=bytes")
large, said, seconds = peak_of("data", "convert", "large.txt", "out/large.bin", "--tokenizer=bytes")
assert os.path.getsize(work + "/out/large.bin") == 192 << 20
bar = re.search(r"\r\[#*\.+\] +\d+ %, \d+ MB, [\d.]+ MB/s", said)  # drawn five times a second
assert (bar and said.endswith("\r" + 70 * " " + "\r")) or (seconds < 0.5 and not said), said[-300:]
checked, _, _ = peak_of("data", "check", "data.name=tokens", "data.path=out/large.bin", "data.val_path=out/e.bin")
if "VARION_SANITIZED" not in os.environ:  # keeps what was freed
    assert large < small + 48 and checked < small + 48, (small, large, checked)
for name in ("large.txt", "out/large.bin"):
    os.remove(f"{work}/{name}")

# What is refused, and that it leaves nothing.
before = sorted(os.listdir(work + "/out"))
put("broken.txt", whole[:5000000] + b"\xff" + whole)
put("odd.bin", "abc")
put("empty.txt", "")
for words, code, part in [
        (["broken.txt", "out/x.bin", "--tokenizer=chars"], 65, f"broken.txt: byte {len(whole)} is not UTF-8"),
        (["any.bin", "out/x.bin", "--vocab=out/c.tokenizer"], 65, "any.bin: byte 0 is '"),
        (["empty.txt", "out/x.bin", "--tokenizer=bytes"], 65, "the text is empty"),
        (["none.txt", "out/x.bin", "--tokenizer=bytes"], 66, "none.txt"),
        (["more.txt", "out/x.bin"], 78, "data.vocab"),
        (["more.txt", "out/x.bin", "--vocab=folder"], 66, "folder/encoder.json"),
        (["more.txt", "out/x.bin", "--tokenizer=char"], 78, "did you mean 'chars'"),
        (["more.txt", "out/x.bin", "--tokenizer=bytes", "--format=raw"], 64, "--format"),
        (["more.txt", "out/x.bin", "--tokenizer=bytes", "--shard-tokens=-1"], 64, "--shard-tokens"),
        (["more.txt", "out/x.bin", "--tokenizer=bytes", "--vocab=out/c.tokenizer"], 64, "leave out --tokenizer"),
        (["more.txt", "out/x.bin", "--tokenizer=bytes", "--end-of-text"], 64, "the tokenizer bytes has no token <|endoftext|>"),
        (["more.txt"], 64, "use: data info"),
        (["more.txt", "/proc/none/x.bin", "--tokenizer=bytes"], 73, "/proc/none")]:
    said = run("data", "convert", *words, code=code)
    assert part in said, (words, said)
assert sorted(os.listdir(work + "/out")) == before, os.listdir(work + "/out")
assert "use: data info" in run("data", "decode", "out/t.bin", "x.txt", "--end-of-text", code=64)
assert "use: data info" in run("data", "info", "--end-of-text", code=64)
assert "odd number" in run("data", "decode", "odd.bin", "x.txt", "--vocab=vocabulary", code=65)
put("two.tokenizer", 'chars:"ab"\n')
assert "out/e.bin: token 2 is 2, not below the vocabulary's size, 2" in run("data", "decode", "out/e.bin", "x.txt", "--vocab=two.tokenizer", code=65)
assert not os.path.exists(work + "/x.txt")

# The data sets.
said = run("data", "check", "data.name=sentences")
assert "3125 training, 313 test, 0 shifted examples of [64], 54 classes, digest 4f3138201b2032a7" in said, said
assert "training, 2" in said and "tokenizer chars" in said, said
said = run("data", "check", "data.name=text", "data.path=folder", "data.length=100", "data.tokenizer=gpt2", "data.vocab=vocabulary")
assert "examples of [100], 259 classes" in said and "tokenizer gpt2" in said, said
said = run("data", "check", "data.name=slips")
assert "2 classes" in said and "tokenizer chars" in said, said
said = run("data", "check", "data.name=passages", "data.path=texts", "data.length=1", "data.val_share=0.5", "data.tokenizer=bytes", code=65)
assert "texts/3.txt (training part): 0 tokens" in said, said
both = ["data.name=tokens", "data.path=out/s_*.bin", "data.val_path=out/t.bin"]
assert "50304 classes" in run("data", "check", *both)
assert "259 classes" in run("data", "check", *both, "data.vocab=vocabulary")
run("data", "info", *both, "data.vocab_size=200")
assert "not below the vocabulary's size, 200" in run("data", "check", *both, "data.vocab_size=200", code=65)

data = os.environ.get("VARION_TEST_DATA")
if data:
    # Numbers of tokens and their SHA-256 as tiktoken 0.14 gives them with the same vocabulary; parts as nanoGPT publishes them.
    for name, count, digest in [("train", 6214239, "4c0afe7b44f953abb2e842c20d6398b2771b555e2d94d75f26c7e387c77a26f2"),
                                ("valid", 291930, "9d5eb941b33c98ae6d429dceb869ba46f91f30caaf7d72b1d5017037dfce4c28"),
                                ("shakespeare", 338025, "25c01b32b32f41897a6359dd222ec114992dc30c357bcafbfe6c56672f76cd31")]:
        packed = f"{data}/classic-books/{name}.txt.xz"
        put("book.txt", lzma.open(packed).read() if os.path.exists(packed) else open(f"{data}/tinyshakespeare/input.txt", "rb").read())
        run("data", "convert", "book.txt", "book.bin", f"--vocab={data}/gpt2-bpe", "--force")
        assert len(get("book.bin")) == 2 * count and hashlib.sha256(get("book.bin")).hexdigest() == digest, name
        run("data", "decode", "book.bin", "book-back.txt", "--force")
        assert get("book-back.txt") == get("book.txt"), name
    shakespeare = ["data.name=text", f"data.path={data}/tinyshakespeare/input.txt"]
    said = run("data", "check", *shakespeare)
    assert "1003854 training, 111540 test tokens" in said and "65 classes" in said, said
    said = run("data", "check", *shakespeare, "data.tokenizer=gpt2", f"data.vocab={data}/gpt2-bpe")
    assert "301966 training, 36059 test tokens" in said and "50257 classes" in said, said
print("text: all checks passed")
