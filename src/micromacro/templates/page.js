// The one script of a page: folds, enlarges, searches. All that it adds is hidden, or absent, without it.
"use strict";

// Show or fold all code; the choice holds for the next page, where the browser keeps it.
const unfold = document.getElementById("unfold");
const folds = document.querySelectorAll("details.code");
if (unfold && folds.length) {
  const show = (open) => {
    folds.forEach((fold) => { fold.open = open; });
    unfold.setAttribute("aria-pressed", open);
    unfold.textContent = open ? "Fold all code" : "Show all code";
  };
  const kept = { get: () => false, set: () => {} };
  try { // storage may be forbidden
    kept.get = () => localStorage.getItem("code") === "shown";
    kept.set = (open) => localStorage.setItem("code", open ? "shown" : "folded");
    if (kept.get()) show(true);
  } catch { kept.set = () => {}; }
  unfold.hidden = false;
  unfold.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") === "false";
    show(open);
    kept.set(open);
  });
}

// A figure opens at its full size in a dialog; Escape, or a click, closes it.
const dialog = document.createElement("dialog");
dialog.className = "enlarged";
dialog.setAttribute("aria-label", "The figure, enlarged");
dialog.addEventListener("click", () => dialog.close());
document.body.append(dialog);
for (const image of document.querySelectorAll("article img")) {
  if (image.closest("a")) continue;
  const button = document.createElement("button");
  button.className = "enlarge";
  button.title = "Enlarge";
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const copy = image.cloneNode();
    const close = document.createElement("button");
    close.className = "plain";
    close.textContent = "Close";
    dialog.replaceChildren(close, copy);
    dialog.showModal();
  });
}

// On a phone the contents cover the page: they go away once one is chosen.
const contents = document.getElementById("contents");
contents?.addEventListener("click", (event) => {
  if (event.target.closest("a") && contents.matches(":popover-open")) contents.hidePopover();
});

// The section in view is marked in the contents.
const marks = new Map();
for (const link of contents?.querySelectorAll('ol ol a[href^="#"]') ?? []) {
  const heading = document.getElementById(link.hash.slice(1));
  if (heading) marks.set(heading, link);
}
if (marks.size) {
  const mark = () => {
    const passed = [...marks.keys()].filter((heading) => heading.getBoundingClientRect().top < 120);
    for (const link of marks.values()) link.classList.remove("in-view");
    marks.get(passed.at(-1))?.classList.add("in-view");
  };
  document.addEventListener("scroll", mark, { passive: true });
  mark();
}

// Search: every word of the query must occur; a title counts more than text, a whole word more than a part.
const source = document.getElementById("search-index");
const query = document.getElementById("query");
if (source && query) {
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  let sections = null; // made at the first letter, so that a page opens at once
  const made = () => JSON.parse(source.textContent).flatMap(([name, page, parts]) =>
    parts.map(([level, anchor, title, text]) => ({
      href: `${name}.html#${anchor}`, page, title, text, level,
      inTitle: plain(level > 1 ? title : page), inText: plain(text),
    })));
  const worth = (section, words) => {
    let sum = 0;
    for (const word of words) {
      const whole = (text) => ` ${text.replace(/[^\p{L}\p{N}]+/gu, " ")} `.includes(` ${word} `);
      if (section.inTitle.includes(word)) sum += whole(section.inTitle) ? 20 : 10;
      else if (section.inText.includes(word)) sum += whole(section.inText) ? 2 : 1;
      else return 0;
    }
    return sum;
  };
  const excerpt = (section, words) => {
    const at = Math.max(0, Math.min(...words.map((word) => section.inText.indexOf(word)).filter((n) => n >= 0)));
    const start = Number.isFinite(at) && at > 40 ? section.text.lastIndexOf(" ", at - 30) + 1 : 0;
    const part = section.text.slice(start, start + 120);
    return (start ? "… " : "") + part + (start + 120 < section.text.length ? " …" : "");
  };
  const hits = document.getElementById("hits");
  const count = document.getElementById("count");
  const search = () => {
    const words = plain(query.value).split(/\s+/).filter(Boolean);
    hits.replaceChildren();
    count.textContent = "";
    if (words.join("").length < 2) return;
    sections ??= made();
    const best = sections.map((section) => [worth(section, words), section]).filter(([sum]) => sum)
      .sort(([a], [b]) => b - a);
    count.textContent = best.length ? `${best.length} section${best.length > 1 ? "s" : ""}` : "Nothing found";
    for (const [, section] of best.slice(0, 12)) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      const where = document.createElement("span");
      link.href = section.href;
      link.textContent = section.level > 1 ? section.title : section.page;
      where.textContent = `${section.level > 1 ? section.page + " — " : ""}${excerpt(section, words)}`;
      link.append(where);
      item.append(link);
      hits.append(item);
    }
  };
  query.addEventListener("input", search);
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter") hits.querySelector("a")?.click();
  });
  query.closest("search").hidden = false;
}
