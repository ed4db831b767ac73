"""The style and the script of `duch.html_page`."""

from __future__ import annotations

# The colours are those of the contact sheet.
STYLE = """
:root { color-scheme: light dark; --paper: #f5f6f8; --panel: #fff; --card: #e4ebf8; --empty: #d9dce1; --ink: #171a21;
  --soft: #5c6472; --line: #d3d8e0; --accent: #2457c5; --on: #b4410e; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151c; --panel: #1b2029; --card: #223052; --empty: #2b313c;
  --ink: #e8ebf2; --soft: #a3acba; --line: #343b48; --accent: #8db0ff; --on: #ff9d5c; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; max-width: 1480px; padding: 28px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Noto Sans", "DejaVu Sans", sans-serif; }
h1, p, ol, dl, dd, figure, blockquote { margin: 0; padding: 0; }
header { margin-bottom: 24px; }
.label { color: var(--accent); font-size: 12px; font-weight: 600; letter-spacing: .06em; text-transform: uppercase; }
h1 { display: flex; align-items: center; gap: 18px; margin: 4px 0; font-size: 26px; font-weight: 600; line-height: 1.3;
  overflow-wrap: anywhere; }
h1 img { width: 140px; height: 140px; flex: none; }
header > p:last-child, figcaption, .cards p { color: var(--soft); }
a { color: var(--accent); text-underline-offset: 2px; }
img, .none, .cards blockquote { display: block; border-radius: 8px; }
.with-map { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.4fr); gap: 28px; align-items: start; }
.map { position: sticky; top: 28px; }
.map svg { display: block; max-width: 100%; max-height: 84vh; background: var(--panel); border: 1px solid var(--line);
  border-radius: 8px; }
figcaption { margin-top: 8px; font-size: 13px; }
.map text { font-size: 12px; fill: var(--soft); paint-order: stroke; stroke: var(--panel); stroke-width: 3px;
  stroke-linejoin: round; }
.graticule path { stroke: var(--line); fill: none; }
.lon, .scale text { text-anchor: middle; }
.scale path { stroke: var(--soft); fill: none; stroke-width: 1.5; }
.footprint path { fill: var(--accent); fill-opacity: .16; fill-rule: evenodd; stroke: var(--accent);
  stroke-width: 1.3; }
.footprint circle { fill: var(--accent); stroke: var(--panel); }
.footprint text { fill: var(--ink); font-weight: 600; text-anchor: middle; dominant-baseline: central; }
.footprint:is(:hover, :focus, :target, .on) path { fill: var(--on); fill-opacity: .45; stroke: var(--on);
  stroke-width: 2.5; }
/* A footprint that is cut at the antimeridian is filled by one path and has its edges, without the cut, in another.
   The class is doubled so that it outweighs the highlighting. */
.footprint .inside.inside { stroke: none; }
.footprint .edge.edge { fill: none; }
.footprint:is(:hover, :focus, :target, .on) circle { fill: var(--on); r: 7px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 18px; list-style: none; }
.cards li { padding: 8px; background: var(--panel); border: 1px solid var(--line); border-radius: 12px; font-size: 13px;
  scroll-margin: 28px; }
.cards li:is(:hover, :target, .on) { border-color: var(--on); box-shadow: 0 0 0 1px var(--on); }
.cards img, .none, .cards blockquote { width: 100%; height: auto; aspect-ratio: 1; }
.none { display: grid; place-items: center; background: var(--empty); }
.cards blockquote { display: grid; align-items: safe center; padding: 12px; overflow: auto; overflow-wrap: anywhere;
  background: var(--card); border-left: 4px solid var(--accent); font-size: 15px; }
.rank { display: flex; justify-content: space-between; margin-top: 8px; }
.rank b { color: var(--ink); font-size: 15px; }
.id { overflow-wrap: anywhere; }
summary { color: var(--soft); cursor: pointer; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 10px; margin-top: 4px; }
dt { color: var(--soft); }
dd { overflow-wrap: anywhere; }
:focus-visible { outline: 3px solid var(--on); outline-offset: 2px; }
.footprint:focus-visible { outline: none; }
@media (max-width: 900px) { body { padding: 16px; } .with-map { display: block; } .map { position: static;
  margin-bottom: 20px; } }
@media (min-width: 901px) and (max-width: 1150px) { .map text { font-size: 14px; } }
@media (max-width: 560px) { h1 { font-size: 21px; } .map text { font-size: 16px; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; } }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print { body { max-width: none; padding: 0; } .with-map { display: block; } .map { position: static;
  max-width: 14cm; margin-bottom: 20px; } .cards { grid-template-columns: repeat(4, 1fr); }
  .cards li { break-inside: avoid; } details::details-content { content-visibility: visible; block-size: auto; } }
"""

# What bears the rank of the hit that the pointer or the focus is on, card and footprint, is highlighted.
SCRIPT = """
for (const [event, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]])
  document.addEventListener(event, ({ target }) => {
    const hit = target.closest("[data-rank]");
    if (hit)
      for (const each of document.querySelectorAll(`[data-rank="${hit.dataset.rank}"]`))
        each.classList.toggle("on", on);
  });
"""
