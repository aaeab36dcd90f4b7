"""The layout of the sandbox's own pages: no script, and nothing loaded from elsewhere."""

from html import escape

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--card:#fff;--ground:#f3f5f8;
 --go:#1463d6}
@media (prefers-color-scheme:dark){:root{--ink:#e9edf2;--soft:#9aa6b5;--line:#313a46;--card:#1b212a;
 --ground:#12161c;--go:#5b9bff}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:26rem;margin:0 auto;padding:2.5rem 1rem}main.wide{max-width:64rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.25rem;margin:0 0 1rem}
h1{font-size:1.35rem;margin:0 0 .5rem}h2{font-size:1.05rem;margin:0 0 .75rem}p{margin:.25rem 0 .9rem}
.soft,small{color:var(--soft);font-size:.875rem}form{margin:0}
button{font:inherit;padding:.65rem 1rem;border-radius:9px;border:1px solid var(--line);background:var(--card);
 color:var(--ink);cursor:pointer}
button.go{background:var(--go);border-color:var(--go);color:#fff}button.full{width:100%;margin:0 0 .6rem;
 text-align:left}
button:focus-visible,input:focus-visible,select:focus-visible{outline:3px solid var(--go);outline-offset:2px}
.row{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;margin:0 0 .6rem}.row>button{flex:0 0 auto}
.choice{display:flex;gap:.75rem}.choice>button{flex:1}
input,select{font:inherit;padding:.5rem .6rem;border:1px solid var(--line);border-radius:8px;
 background:var(--ground);color:var(--ink);min-width:0;width:8.5rem}
label{display:inline-flex;flex-direction:column;font-size:.8rem;color:var(--soft)}
ul.plain{list-style:none;margin:.5rem 0;padding:0}
ul.plain>li{display:flex;flex-wrap:wrap;gap:.5rem;justify-content:space-between;align-items:center;
 border-top:1px solid var(--line);padding:.5rem 0}ul.plain>li>span:first-child{flex:1 1 12rem}
ul.plain .row{margin:0}summary,.card small{overflow-wrap:anywhere}button{min-height:2.75rem}
details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer}details>form{margin-top:.6rem}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr))}
"""


def draw_page(title: str, body: str, *, wide: bool = False) -> str:
    """Return a whole page around `body`, which is HTML."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head>"
        f"<body><main{' class=wide' if wide else ''}>{body}</main></body></html>"
    )


def draw_error(title: str, text: str) -> str:
    body = f'<div class="card"><h1>{escape(title)}</h1><p>{escape(text)}</p></div>'
    return draw_page(title, f"{body}<p class=soft>BreezeDoc sandbox</p>")
