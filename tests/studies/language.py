"""Language models on the command line: train, evaluate, sample, and fine-tune with frozen parts and adapters; what is refused."""
import os, shutil, subprocess

VARION = os.environ["VARION_BIN"]
work = os.path.abspath("language-test")
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)


def run(*words, code=0):
    p = subprocess.run([VARION, *words], cwd=work, capture_output=True, encoding="utf-8", errors="replace")
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    if code:
        assert len(p.stderr.splitlines()) == 1, p.stderr
    return p.stdout + p.stderr


def value(said, name):
    return float(next(line.split()[1] for line in said.splitlines() if line.split()[:1] == [name]))


small = ["model.name=gpt2", "model.layers=2", "model.heads=4", "model.width=32", "data.length=32", "data.global_batch=16", "train.steps=400",
         "eval.every=0st", "eval.samples=2", "data.test_size=100", "log.every=400st"]
ivon = ["optim.name=ivon", "optim.lr=2000", "optim.hess_init=1e-3", "optim.ess=1e9", "optim.beta2=0.9999", "optim.weight_decay=1e-6",
        "optim.clip_radius=1e-3", "optim.warmup=20st"]
said = run("train", *small, *ivon, "data.name=sentences", "run.name=base")
assert "tokens/s" in said and " 54 tokens" not in said, said
base = "runs/base/final.h5"
said = run("evaluate", base, "--samples=2")
# 54 characters: 3.99 nats a character at first; what the character before tells leaves 2.04.
assert value(said, "mean/nll") < 2 and abs(value(said, "mean/nll") - value(said, "test/nll")) < 0.05, said

text = run("sample", base, "--tokens=80", "--prompt=the ")
assert text.startswith("the ") and len(text) == 85, text
assert text == run("sample", base, "--tokens=80", "--prompt=the ") != run("sample", base, "--tokens=80", "--prompt=the ", "--seed=2")
two = run("sample", base, "--tokens=30", "--count=2", "--weights=posterior")
assert two.startswith("--- 1 of 2\n") and "\n--- 2 of 2\n" in two, two
assert run("sample", base, "--tokens=9", "--temperature=0", "--seed=1") == run("sample", base, "--tokens=9", "--top-k=1", "--seed=7")
for words, why in ((["--prompt=\u6f22"], "which the alphabet of 'chars' has not"), (["--tokens=0"], "--tokens=0 must be a number from 1"),
                   (["--tokens=1.5"], "must be a whole number"), (["--weights=all"], "mean, or posterior"), (["--temperature=-1"], "from 0"),
                   (["--heat=1"], "flags here")):
    said = run("sample", base, *words, code=65 if "\u6f22" in words[0] else 64)
    assert why in said, said
run("-q", "train", "data.name=moons", "model.sizes=4", "train.steps=2", "run.name=moons")
assert "is no language model" in run("sample", "runs/moons/final.h5", code=78)
run("-q", "train", *small, "optim.name=adamw", "optim.lr=1e-3", "data.name=sentences", "train.steps=2", "run.name=point")
assert "a point estimate" in run("sample", "runs/point/final.h5", "--weights=posterior", code=78)

# Adapters beside what another run has trained, on a text of other sentences in the same characters.
with open(f"{work}/names.txt", "w") as f:
    f.write("".join(f"say {a}{b}: {b}{a}.\n" for a in ("Anna", "Boris", "Clara", "David", "Emma") for b in ("see", "know", "help", "find") * 30))
other = ["data.name=text", "data.path=names.txt", f"data.vocab={base}", "data.test_size=20"]
said = run("train", *small, *ivon, *other, f"model.init={base}", "model.lora_rank=3", "run.name=lora")
assert "frozen ones" in said and f"starting from {base}: 15 of 31 tensors; as drawn: transformer.h.0.attn.c_attn.lora_A.weight" in said, said
adapted = value(run("evaluate", "runs/lora/final.h5"), "mean/nll")
begin = run("train", *small, *ivon, *other, f"model.init={base}", "model.lora_rank=3", "train.steps=1", "run.name=begin")
assert adapted < value(begin, "mean/nll") - 0.5, (adapted, begin)
assert len(run("sample", "runs/lora/final.h5", "--tokens=20")) == 21
assert os.path.getsize(f"{work}/runs/lora/final.h5") < 0.7 * os.path.getsize(f"{work}/{base}")
assert "the same bits, ok" in run("verify", "resume", *small, *ivon, *other, f"model.init={base}", "model.lora_rank=3")
# The frozen weights are not in the file: another file in their place is found out.
os.rename(f"{work}/{base}", f"{work}/kept.h5")
assert "no such file" in run("evaluate", "runs/lora/final.h5", code=66).lower()
shutil.copy(f"{work}/runs/point/final.h5", f"{work}/{base}")
assert "the frozen parameters, from model.init, are not those" in run("evaluate", "runs/lora/final.h5", code=65)
os.rename(f"{work}/kept.h5", f"{work}/{base}")
run("evaluate", "runs/lora/final.h5", "--samples=1")

# The lower block alone is trained; words that fit nothing.
said = run("train", *small, *ivon, *other, f"model.init={base}", "model.freeze=transformer.wte,transformer.wpe,transformer.h.1,transformer.ln_f",
           "train.steps=2", "run.name=lower")
assert "12352 parameters" in said, said
assert "has no tensor 'h.1'" in run("train", *small, *other, "model.freeze=h.1", "run.name=wrong", code=78)
assert "leaves nothing of gpt2 to train" in run("train", *small, *other, "model.freeze=transformer", "run.name=wrong", code=78)
assert "was not trained on characters" in run("train", *small, *other[:2], "data.vocab=runs/moons/final.h5", "run.name=wrong", code=78)

# Tokens from files: sampling needs their tokenizer, which the files' description names.
run("-q", "data", "convert", "names.txt", "tokens.bin", "--tokenizer=bytes")
run("-q", "train", *small, *ivon, "data.name=tokens", "data.path=tokens.bin", "data.val_path=tokens.bin", "data.vocab=tokens.tokenizer", "run.name=tokens",
    "train.steps=3")
assert run("sample", "runs/tokens/final.h5", "--tokens=5", "--prompt=say").startswith("say")  # bytes, that need not be UTF-8

# An encoder: hidden tokens first, then classes of passages from there; its head is new.
encoder = ["model.name=encoder", "model.layers=2", "model.heads=4", "model.width=32", "data.length=32", "data.global_batch=16", "eval.every=0st",
           "eval.samples=2", "data.test_size=100", "log.every=100st", "optim.name=adamw", "optim.lr=2e-3", "optim.warmup=20st"]
run("train", *encoder, "data.name=sentences", "train.steps=200", "run.name=hidden")
hidden = value(run("evaluate", "runs/hidden/final.h5"), "mean/nll")
assert hidden < 3.2, hidden  # 3.99 nats at first, 3.23 by the letters' frequencies
assert hidden == value(run("evaluate", "runs/hidden/final.h5", "run.seed=9"), "mean/nll")
assert "encoder is no language model" in run("sample", "runs/hidden/final.h5", code=78)
classify = [*encoder, "model.task=classify", "data.name=slips", "train.steps=30"]
said = run("train", *classify, "model.init=runs/hidden/final.h5", "model.init_skip=head", "run.name=classes")
assert "starting from runs/hidden/final.h5: 15 of 17 tensors; as drawn: head.weight, head.bias" in said, said
said = run("evaluate", "runs/classes/final.h5")
assert 0.3 < value(said, "mean/acc") <= 1 and "confidence  accuracy" in said, said
assert "no tensor 'head.weight'; model.init_skip=head" in run("train", *classify, "model.init=runs/hidden/final.h5", "run.name=wrong", code=65)
assert "encoder is no language model" in run("sample", "runs/classes/final.h5", code=78)
said = run("train", *classify, "model.init=runs/hidden/final.h5", "model.lora_rank=2", "run.name=adapters")
assert "2114 parameters, 27520 frozen ones" in said, said  # adapters and the head
assert "the same bits, ok" in run("verify", "resume", *classify, "model.init=runs/hidden/final.h5", "model.init_skip=head")
# Who wrote it: files that are classes, in the alphabet of the run before, which is enough to tell them apart in no time.
os.makedirs(f"{work}/authors")
for name, words in (("anna", ["see", "know", "help", "find"]), ("boris", ["red", "blue", "green", "black"])):
    with open(f"{work}/authors/{name}.txt", "w") as f:
        f.write("".join(f"the {words[i % 4]} {words[i * 7 % 3]}.\n" for i in range(400)))
authors = [*classify, "data.name=passages", "data.path=authors", "data.vocab=runs/hidden/final.h5", "data.test_size=0"]
run("train", *authors, "model.init=runs/hidden/final.h5", "model.init_skip=head", "run.name=authors")
assert value(run("evaluate", "runs/authors/final.h5"), "mean/acc") > 0.95
print("ok")
