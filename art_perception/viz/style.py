"""Look of report.html: cards in one column, light or dark as the reader's system says, from phone to desktop."""

CSS = """
:root{--bg:#f1f5f9;--card:#fff;--ink:#0f172a;--soft:#64748b;--line:#e2e8f0;--accent:#0ea5e9;--ok:#15803d;--okbg:#dcfce7;
--bad:#b45309;--badbg:#fef3c7;--band:rgba(14,165,233,.10)}
@media (prefers-color-scheme:dark){:root{--bg:#0b1120;--card:#151e2e;--ink:#e2e8f0;--soft:#94a3b8;--line:#27344a;
--ok:#86efac;--okbg:#14532d;--bad:#fcd34d;--badbg:#45300a;--band:rgba(56,189,248,.13)}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 56px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 16px;margin-bottom:18px}
h1{font-size:30px;line-height:1.15;margin:0;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:13px;letter-spacing:.07em;text-transform:uppercase;color:var(--soft);margin:0 0 14px;font-weight:650}
header p{margin:0;color:var(--soft);overflow-wrap:anywhere}
.chips{display:flex;flex-wrap:wrap;gap:8px;width:100%;margin-top:8px}
.chip{background:var(--card);border:1px solid var(--line);border-radius:999px;padding:3px 12px;font-size:13px}
.chip b{font-weight:650}
section{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:20px;margin-top:16px}
.warn{background:var(--badbg);color:var(--bad);border-color:transparent;padding:14px 20px}
.warn ul{margin:0;padding-left:18px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.frames{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin-top:14px}
figure{margin:0}
figure img{width:100%;display:block;border-radius:9px;border:1px solid var(--line)}
figcaption{font-size:12.5px;color:var(--soft);margin-top:5px}
.scroll{overflow-x:auto;margin:0 -20px;padding:0 20px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-size:12px;font-weight:600;color:var(--soft);text-align:left;padding:0 11px 7px 0;white-space:nowrap}
td{padding:9px 11px 9px 0;font-size:14px;border-top:1px solid var(--line);white-space:nowrap;vertical-align:middle}
td small,li small{color:var(--soft);font-size:12.5px}
.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:8px}
.badge{border-radius:6px;padding:2px 8px;font-size:12.5px;font-weight:600}
.yes{background:var(--okbg);color:var(--ok)}.no{background:var(--badbg);color:var(--bad)}
.meter{display:inline-block;width:70px;height:7px;border-radius:4px;background:var(--line);overflow:hidden;margin-right:8px;
vertical-align:middle}
.meter i{display:block;height:100%;border-radius:4px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:18px}
.plots h3{margin:0 0 4px;font-size:15px;font-weight:620}
.plot{width:100%;max-width:680px;height:auto;display:block}
.plot .grid{stroke:var(--line)}.plot .zero{stroke:var(--soft);stroke-opacity:.55}
.plot .band{fill:var(--band)}
.plot .tick{font-size:12px;fill:var(--soft)}.plot .caption{font-size:12px;fill:var(--soft)}
.columns{display:grid;grid-template-columns:1fr 1fr;gap:16px}
.stack{display:flex;height:16px;border-radius:8px;overflow:hidden;background:var(--line)}
.stack i{display:block}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;margin:12px 0 0;padding:0;list-style:none}
.files{margin:0;padding:0;list-style:none}.files li{padding:7px 0;border-top:1px solid var(--line)}
.files li:first-child{border:0}
a{color:var(--accent);text-decoration:none;font-weight:600}a:hover{text-decoration:underline}
footer{color:var(--soft);font-size:12.5px;margin-top:22px;overflow-wrap:anywhere}
@media (max-width:760px){main{padding:18px 12px 40px}section{padding:16px}.scroll{margin:0 -16px;padding:0 16px}
.pair,.columns{grid-template-columns:minmax(0,1fr)}.frames{grid-template-columns:1fr 1fr}h1{font-size:25px}}
"""
