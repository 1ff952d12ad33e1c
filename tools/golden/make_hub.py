#!/usr/bin/env python3
"""Small tokenizers as hubs have them for SigLIP, with texts and ids by transformers and open_clip: tests/golden/text/hub/.

Needs transformers >= 5, open_clip_torch, tokenizers, sentencepiece and protobuf from PyPI:
    python3 tools/golden/make_hub.py
"""
import json
import pathlib
import random
import shutil
import tempfile

import sentencepiece
import sentencepiece.sentencepiece_model_pb2 as model_pb2
from open_clip.tokenizer import get_clean_fn
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "text" / "hub"
CONTEXT = 24
CLEANS = ["lower", "whitespace", "canonicalize"]

# A charsmap of a few of nmt_nfkc's rules: the whole of it is 300 kB in base64.
RULES = {"\u00a0": " ", "\u3000": " ", "\t": " ", "\n": " ", "\r": " ", "\u200b": " ", "\ufffd": " ", "\u0001": "", "\u007f": "",
         "ﬁ": "fi", "ﬀ": "ff", "½": "1⁄2", "㈱": "(株)", "Ａ": "A", "Ｂ": "B", "１": "1", "ｶ": "カ", "ﾞ": "\u3099", "ｶﾞ": "ガ",
         "カ\u3099": "ガ", "e\u0301": "é", "A\u030a": "Å", "´": " \u0301", "¨": " \u0308", "…": "...", "™": "TM", "ﷺ": "صلى الله"}
WORDS = """a photo of the dog, Cat naïve café e\u0301 A\u030a ﬁne ﬀ ½ ㈱ ＡＢ１ ｶﾞ ｶ ﾞ カ\u3099 ﷺ İstanbul ΣΑΣ Straße 日本 中文 русский 😀""".split()
ATOMS = [" ", "  ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u00a0\u0301", "\u3000", "\u200b", "\u200d", "\u0085", "\u001f", "\u0001", "\u007f",
         "▁", "▁▁", "_", "'", "?!", "#[x]", "</s>", " </s> ", "<unk>", "<pad>", "<eos>", "<bos>", "<mask>", "<0x0A>", "&amp;", "\u0301",
         "´", "¨", "\ufffd", "👨‍👩‍👧", "🇩🇪", "❤️", "क्षि", "\U0010ffff", "ſ", "xyzzy", "the fox"]


def texts():
    rng = random.Random(5)
    out = ["", " ", "  ", "\n", "a", " a", "a ", "  a  b ", "▁", "▁ a", "</s>", "a </s>", "</s> a", "<unk>", "\u0001", "\u0001a", "ab " * 40,
           "x" * 100, "\u200ba\u200b", "Two dogs, one CAT; 3 birds."]
    while len(out) < 120:
        parts = (rng.choice(WORDS if rng.random() < 0.6 else ATOMS) + (" " if rng.random() < 0.6 else "") for _ in range(rng.randint(1, 8)))
        out.append("".join(parts))
    return out


def train(folder, **kw):
    lines = [line for name in ("README.md", "docs/models.md", "docs/search.md") if (ROOT / name).exists()
             for line in (ROOT / name).read_text().split("\n")]
    prefix = pathlib.Path(folder) / "spm"
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines + WORDS * 20), model_prefix=str(prefix), character_coverage=0.999,
                                             minloglevel=2, hard_vocab_limit=False, **kw)
    proto = model_pb2.ModelProto()
    proto.ParseFromString(prefix.with_suffix(".model").read_bytes())
    return proto


def ends(token, number):
    return processors.TemplateProcessing(single=f"$A {token}", pair=f"$A {token} $B {token}", special_tokens=[(token, number)])


def unigram(steps, scheme="always", byte_fallback=False):
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        hexes = lambda s: " ".join(f"{ord(c):X}" for c in s)
        rules.write_text("".join(f"{hexes(k)}\t{hexes(v)}\n" for k, v in RULES.items()))
        proto = train(folder, vocab_size=700, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                      byte_fallback=byte_fallback, normalization_rule_tsv=str(rules))
    tok = Tokenizer(Unigram([(p.piece, p.score) for p in proto.pieces], unk_id=2, byte_fallback=byte_fallback))
    tok.normalizer = normalizers.Sequence(steps(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
    tok.post_processor = ends("</s>", 1)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<pad>", "</s>", "<unk>")])
    return tok


def xlm_roberta():
    """The pieces behind four tokens of its own, as XLM-RoBERTa numbers them."""
    doc = json.loads(unigram(lambda c: [c, normalizers.Replace(Regex(" {2,}"), " ")]).to_str())
    own = ["<s>", "<pad>", "</s>", "<unk>"]
    doc["model"]["vocab"] = [[t, 0.0] for t in own] + doc["model"]["vocab"][3:] + [["<mask>", 0.0]]
    doc["model"]["unk_id"] = 3
    doc["added_tokens"], doc["post_processor"] = [], None
    tok = Tokenizer.from_str(json.dumps(doc))
    tok.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
                                                       special_tokens=[("<s>", 0), ("</s>", 2)])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in own])
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    return tok


def gemma():
    user = ["<mask>", "\n", "\n\n", "▁▁"]
    with tempfile.TemporaryDirectory() as folder:
        proto = train(folder, vocab_size=900, model_type="bpe", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
                      bos_piece="<bos>", byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=False,
                      remove_extra_whitespaces=False, user_defined_symbols=user)
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    merges = [(p.piece[:k], p.piece[k:], p.score) for p in proto.pieces for k in range(1, len(p.piece))
              if p.piece[:k] in vocab and p.piece[k:] in vocab]
    merges.sort(key=lambda m: -m[2])
    tok = Tokenizer(BPE(vocab, [m[:2] for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.post_processor = ends("<eos>", 1)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<pad>", "<eos>", "<bos>", "<unk>")])
    tok.add_tokens([AddedToken(t, normalized=False) for t in user])
    return tok


def write(name, tok, config, **change):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    doc = json.loads(tok.to_str())
    for key, value in change.items():
        doc["model"][key] = value(doc["model"][key])
    (folder / "tokenizer.json").write_text(json.dumps(doc, ensure_ascii=False, separators=(",", ":")))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def siglip_js(charsmap):
    """As transformers.js has it, which cannot run SiglipTokenizer's Python."""
    return [normalizers.Lowercase(), normalizers.Replace(Regex(r"""[!"\#\$%\&'\(\)\*\+,\-\./:;<=>\?@\[\\\]\^_`\{\|\}\~]"""), ""),
            normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), charsmap]


t5 = dict(eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=64)
google = dict(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", padding_side="right")
plain = unigram(siglip_js, "first", True)
plain.add_tokens([AddedToken("xyzzy", lstrip=True, rstrip=True, normalized=False), AddedToken("The FOX", normalized=True)])
folders = [
    write("t5", unigram(lambda c: [c, normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]),
          dict(t5, tokenizer_class="T5Tokenizer", extra_ids=0, additional_special_tokens=[])),
    write("plain", plain, dict(t5, tokenizer_class="PreTrainedTokenizerFast")),
    write("xlm-roberta", xlm_roberta(), dict(tokenizer_class="XLMRobertaTokenizer", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                                             unk_token="<unk>", cls_token="<s>", sep_token="</s>",
                                             mask_token=dict(content="<mask>", lstrip=True, __type="AddedToken"))),
    write("gemma", gemma(), dict(google, tokenizer_class="GemmaTokenizerFast")),
    write("siglip2", gemma(), dict(google, tokenizer_class="Siglip2Tokenizer"), merges=lambda m: [" ".join(p) for p in m]),
    OUT.parent / "full",
]
cases = []
for folder in folders:
    tok = AutoTokenizer.from_pretrained(folder)
    for text in texts():
        ids = lambda s: tok(s, truncation=True, max_length=CONTEXT)["input_ids"]
        if folder.name != "full":
            cases.append(dict(folder=folder.name, text=text, ids=ids(text)))
        clean = random.Random(text).choice(CLEANS)
        if folder.name in ("full", "t5", "gemma") and random.Random(text + "x").random() < 0.5:
            cases.append(dict(folder=folder.name, text=text, clean=CLEANS.index(clean), ids=ids(get_clean_fn(clean)(text))))
(OUT / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "cases")
