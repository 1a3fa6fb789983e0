"use strict";

const filters = document.querySelector(".filters");

function update() {
  const wanted = new FormData(filters);
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
  filters.elements.count.value = `${shown} of ${cards.length}`;
}

if (filters) {
  filters.addEventListener("input", update);
}
