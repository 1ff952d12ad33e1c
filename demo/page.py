"""The demo's table, in text and as one self-contained page."""
import base64
import html
import json

ROWS = [
    ("clip", "plain CLIP"),
    ("vote", "vote of the neighbours' captions"),
    ("mean", "mean fusion"),
    ("weighted", "weighted, w and g from a grid"),
    ("transformer", "RECO, transformer"),
    ("transformer_rotate", "RECO, transformer, --rotate"),
    ("reco_text", "RECO, relational, text side"),
    ("reco_image", "RECO, relational, image side"),
    ("reco_both", "RECO, relational, both sides"),
    ("reco", "RECO: mixture of CLIP, refined, vote"),
]
COLUMNS = [("old", "old"), ("new", "new"), ("harmonic_mean", "harmonic mean"), ("all", "all"),
           ("new_before_adding", "new, before adding"), ("new_after_deleting", "new, after deleting")]
SAMPLE = 24  # queries shown of each kind

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c93c37; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } p { max-width: 48rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .35rem .8rem; border-bottom: 1px solid var(--line); }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } td:first-child, th:first-child { text-align: left; }
th { text-align: right; font-weight: 600; vertical-align: bottom; } tr.reco td { font-weight: 700; background: var(--soft); }
.scroll { overflow-x: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
.card { border: 1px solid var(--line); border-radius: .6rem; padding: .8rem; display: grid; gap: .5rem;
        grid-template-columns: 76px 1fr; align-content: start; }
.card img.query { width: 72px; height: 72px; background: #fff; border-radius: .4rem; padding: 2px; }
.name { font-weight: 600; } .right { color: var(--good); } .wrong { color: var(--bad); }
.found { grid-column: 1 / 3; display: flex; gap: .4rem; overflow-x: auto; }
.found figure { margin: 0; width: 58px; flex: none; text-align: center; font-size: .68rem; line-height: 1.15; }
.found img { display: block; margin: 0 auto .15rem; width: 44px; height: 44px; background: #fff; border-radius: .3rem; }
.found figure.match { color: var(--good); font-weight: 600; } small { opacity: .75; }
"""


def text_table(results):
    head = ["", *[title for _, title in COLUMNS]]
    rows = [[label, *[f"{100 * results[c][key]:.1f} %" for c, _ in COLUMNS]] for key, label in ROWS]
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
             for row in [head, *rows]]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def picture(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def card(row, data):
    def verdict(title, name):
        mark = "right" if name == row["label"] else "wrong"
        sign = "✓" if mark == "right" else "✗"
        return f'<div>{title}: <span class="{mark}">{sign} {html.escape(name)}</span></div>'

    found = "".join(
        f'<figure class="{"match" if n["caption"] == row["label"] else ""}"><img alt="" src="{picture(data / n["uri"])}">'
        f'{html.escape(n["caption"])}<br><small>{n["score"]:.2f}</small></figure>' for n in (row["neighbours"]["image"] or row["neighbours"]["text"])[:6])
    return (f'<div class="card"><img class="query" alt="{html.escape(row["label"])}" src="{picture(data / row["image"])}">'
            f'<div><div class="name">{html.escape(row["label"])}</div>{verdict("CLIP", row["clip"][0])}'
            f'{verdict("RECO", row["reco"][0])}</div><div class="found">{found}</div></div>')


def sample(path):
    """Evenly spread over the list: nothing is picked for being right."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [rows[i * len(rows) // SAMPLE] for i in range(min(SAMPLE, len(rows)))]


def render(results, out, data):
    cells = "".join(
        f'<tr class="{"reco" if key == "reco" else ""}"><td>{label}</td>'
        + "".join(f"<td>{100 * results[c][key]:.1f} %</td>" for c, _ in COLUMNS) + "</tr>" for key, label in ROWS)
    head = "".join(f"<th>{title}</th>" for _, title in COLUMNS)
    cards = {k: "".join(card(r, data) for r in sample(out / f"details_{k}.jsonl")) for k in ("new", "old")}
    new = results["new"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>reco: emoji that the model has never seen</title><style>{STYLE}</style></head><body>
<h1>Emoji that the model has never seen</h1>
<p>A small CLIP, frozen, has learned from clip art and from emoji of 2012 and older. Its memory holds Noto's drawings with
their names. It is asked to name EmojiOne's drawings, among {results["old"]["classes"]} names. The fusion layer was trained on old emoji
alone; then the drawings of 2014 to 2016 were added to the memory, and nothing was retrained. On those, CLIP alone
names {100 * new["clip"]:.1f} % and RECO {100 * new["reco"]:.1f} %. When they are deleted again, the knowledge is gone.</p>
<div class="scroll"><table><tr><th></th>{head}</tr>{cells}</table></div>
<p><small>Top-1 accuracy. The side that training chose, on old emoji: {html.escape(results["chosen"]["relational"])};
the mixture: CLIP {results["mixture"]["clip"]:.1f}, refined {results["mixture"]["refined"]:.1f}, vote {results["mixture"]["vote"]:.1f}. The other rows are cosines alone.
The samples below are evenly spread over the list; a name in green among what was retrieved is the right one.</small></p>
<h2>New emoji</h2><div class="cards">{cards["new"]}</div>
<h2>Old emoji</h2><div class="cards">{cards["old"]}</div>
<p><small>Drawings: EmojiOne (CC BY-SA 4.0) and Noto Emoji (Apache 2.0).</small></p>
</body></html>
"""
