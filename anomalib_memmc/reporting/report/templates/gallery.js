"use strict";
(() => {
  const gallery = document.getElementById("gallery");
  const cases = Array.from(gallery.children);
  const [filter, sort, opacity, outlines] = ["filter", "sort", "opacity", "outlines"].map((id) => document.getElementById(id));
  const count = document.getElementById("count");
  const output = document.querySelector("output[for=opacity]");
  const BORDERLINE = 12;
  const number = (each, name) => (each.dataset[name] === "inf" ? Infinity : Number(each.dataset[name]));
  const byName = (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1);
  const by = (name, sign) => (a, b) => sign * (number(a, name) - number(b, name)) || byName(a, b);
  const orders = { high: by("score", -1), low: by("score", 1), gap: by("gap", 1), name: byName };

  const show = () => {
    const nearest = new Set([...cases].sort(orders.gap).slice(0, BORDERLINE));
    const isShown = (each) => filter.value === "all" || (filter.value === "border" ? nearest.has(each) : each.dataset.kind === filter.value);
    for (const each of [...cases].sort(orders[sort.value])) {
      each.hidden = !isShown(each);
      gallery.append(each);
    }
    count.textContent = `${cases.filter((each) => !each.hidden).length} of ${cases.length} cases`;
  };
  const fade = () => {
    gallery.style.setProperty("--opacity", opacity.value / 100);
    output.textContent = `${opacity.value} %`;
  };
  const outline = () => gallery.classList.toggle("no-outlines", !outlines.checked);

  filter.addEventListener("change", show);
  sort.addEventListener("change", show);
  opacity.addEventListener("input", fade);
  outlines.addEventListener("change", outline);
  show(); // a browser may have kept what was chosen before a reload
  fade();
  outline();
})();
