"use strict";

const gallery = document.querySelector("#gallery .filters");
const failures = document.querySelector("#failures .filters");

function filterGallery() {
  const wanted = new FormData(gallery);
  const run = wanted.get("run");
  const benchmark = wanted.get("benchmark");
  const cards = document.querySelectorAll("#gallery .card");
  let shown = 0;
  for (const card of cards) {
    const answers = [...card.querySelectorAll("[data-run]")];
    for (const answer of answers) {
      answer.hidden = Boolean(run) && answer.dataset.run !== run;
    }
    const visible = answers.filter((answer) => !answer.hidden);
    card.hidden =
      visible.length === 0 ||
      (Boolean(benchmark) && card.dataset.benchmark !== benchmark) ||
      (wanted.has("differs") && !("differs" in card.dataset)) ||
      (wanted.has("flawed") && !visible.some((answer) => "flawed" in answer.dataset));
    shown += card.hidden ? 0 : 1;
  }
  gallery.elements.count.value = `${shown} of ${cards.length}`;
}

function filterFailures() {
  const wanted = new FormData(failures);
  const text = wanted.get("text").toLowerCase();
  document.querySelectorAll("#failures .failures").forEach((group, index) => {
    group.hidden = index !== Number(wanted.get("group"));
    if (!group.hidden) {
      const rows = [...group.querySelectorAll("tbody tr")];
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(text);
      }
      const shown = rows.filter((row) => !row.hidden).length;
      failures.elements.count.value = `${shown} of ${rows.length}`;
    }
  });
}

if (gallery) {
  gallery.addEventListener("input", filterGallery);
}
if (failures) {
  failures.addEventListener("input", filterFailures);
}
