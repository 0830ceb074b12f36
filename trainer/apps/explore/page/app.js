// The page: what the user does changes the latents, and the pictures follow them.

import { Drawing } from "./drawing.js";
import { getJson, postFile, postForBlob, postForLines, postJson } from "./requests.js";
import { buildLabels } from "./labels.js";
import { buildSliders } from "./sliders.js";

const $ = (selector) => document.querySelector(selector);
const model = await getJson("api/model").catch((error) => { problem(error); throw error; });
const state = { s: [], c: [], s_seed: 0, c_seed: 0, picture: null, fitting: null };
const drawing = new Drawing(model, () => ({ s: state.s, c: state.c }), problem);
const rows = buildSliders(model, moved, renamed);
const labels = buildLabels(model, classChosen);

function problem(error) {
  const box = $("#problem");
  box.querySelector("span").textContent = error.message;
  box.hidden = false;
  $("#status").textContent = "";
}

function tell(text) {
  $("#status").textContent = text;
  $("#problem").hidden = true;
}

// Run what the user asked for; what goes wrong is shown.
const guarded = (action) => async (...given) => {
  try {
    await action(...given);
  } catch (error) {
    if (error.name !== "AbortError") problem(error);
  }
};

// Change latents and seeds, and let the page follow.
function change(changes) {
  Object.assign(state, changes);
  for (const row of rows) row.show(state[row.slider.vector][row.slider.place]);
  for (const label of labels) label.show(state.s);
  for (const vector of ["c", "s"]) $(`#${vector}-seed-input`).value = state[`${vector}_seed`] ?? "";
  drawing.update();
}

function moved({ vector, place }, value) {
  const limited = Math.max(-100, Math.min(100, value));
  state.fitting?.abort();
  change({ [vector]: state[vector].with(place, limited), [`${vector}_seed`]: null });
}

function classChosen(label, k) {
  state.fitting?.abort();
  change({ s: label.set(state.s, k), s_seed: null });
}

// The mean of s; the labels, which stand behind it, stay.
const meanOfS = () => state.s.map((x, i) => (i < model.s_dim ? 0 : x));

async function renamed({ latent }, name, row) {
  row.label();
  try {
    await postJson("api/names", { latent, name });
    tell("");
  } catch (error) {
    problem(error);
  }
}

async function takeSeed(vector, seed) {
  const latents = await getJson(`api/seed/${seed}`);
  state.fitting?.abort();
  change({ [vector]: latents[vector], [`${vector}_seed`]: seed });
}

for (const vector of ["c", "s"]) {
  const input = $(`#${vector}-seed-input`);
  input.addEventListener("change", guarded(async () => {
    if (input.value) await takeSeed(vector, Number(input.value));
  }));
  $(`[data-another=${vector}]`).addEventListener("click", guarded(() => takeSeed(vector, Math.floor(Math.random() * 1e6))));
  $(`[data-mean=${vector}]`).addEventListener("click", () => {
    state.fitting?.abort();
    change({ [vector]: vector === "c" ? [...model.c_mean] : meanOfS(), [`${vector}_seed`]: null });
  });
}

const upload = guarded(async (file) => {
  if (!file) return;
  if (file.size > model.most_bytes) {
    throw new Error(`${file.name} is larger than ${model.most_bytes / 2 ** 20} MB; choose a smaller one`);
  }
  state.fitting?.abort();
  tell("Reading the picture…");
  const { picture, c, remark } = await postFile("api/picture", file);
  $("#picture img").src = `api/picture/${picture}`;
  $("#picture").hidden = false;
  $("#remark").textContent = remark;
  $("#fit").hidden = false;
  $("#fit-error").textContent = "";
  tell(`c is what the encoder reads in the picture${model.s_dim ? ", s the mean. Fit s to come nearer to it." : "."}`);
  change({ picture, c, s: meanOfS(), c_seed: null, s_seed: null });
});

function setFitting(controller) {
  const [shown, hidden] = controller ? [$("#fit-stop"), $("#fit-start")] : [$("#fit-start"), $("#fit-stop")];
  const hadFocus = document.activeElement === hidden;
  state.fitting = controller;
  [shown.hidden, hidden.hidden] = [false, true];
  $("#fit-progress").hidden = !controller;
  $("#with-c").disabled = Boolean(controller);
  if (hadFocus) shown.focus({ preventScroll: true });
}

const startFit = guarded(async () => {
  const controller = new AbortController(), withC = $("#with-c").checked || !model.s_dim;
  const { s, c, picture } = state;
  setFitting(controller);
  tell("");
  let first = null;
  try {
    for await (const step of postForLines("api/fit", { s, c, picture, with_c: withC }, controller.signal)) {
      if (controller.signal.aborted) return; // what the user does meanwhile counts
      if (step.s === undefined) throw new Error(step.error);
      first ??= step.error;
      $("#fit-progress").value = step.step / model.fit_steps;
      $("#fit-error").textContent = `difference of pixels ${first.toFixed(3)} → ${step.error.toFixed(3)}`;
      change({ s: step.s, s_seed: null, ...(withC ? { c: step.c, c_seed: null } : {}) });
    }
  } finally {
    if (state.fitting === controller) setFitting(null);
  }
});

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// faces-64-idgan-seed5, or with the time where it is no image of a seed.
function fileName() {
  const { s_seed: s, c_seed: c } = state;
  const isSeed = (s !== null || !state.s.length) && (c !== null || !model.c_dim) && (!state.s.length || !model.c_dim || s === c);
  const time = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
  return `${model.name}-${isSeed ? `seed${model.c_dim ? c : s}` : time}`;
}

const asked = () => ({ s: state.s, c: state.c, s_seed: state.s_seed, c_seed: state.c_seed });
$("#save-png").addEventListener("click", guarded(async () =>
  download(drawing.blob ?? await postForBlob("api/image", { s: state.s, c: state.c }), `${fileName()}.png`)));
$("#save-code").addEventListener("click", guarded(async () => download(await postForBlob("api/save", asked()), `${fileName()}.json`)));

const loadCode = guarded(async (file) => {
  if (!file) return;
  const { remark, names, ...latents } = await postFile("api/load", file);
  state.fitting?.abort();
  change(latents);
  for (const row of rows) {
    row.name.value = names[row.slider.latent] ?? "";
    row.label();
  }
  tell(remark || `Loaded ${file.name}.`);
});

function onFile(selector, action) {
  $(selector).addEventListener("change", async () => {
    await action($(selector).files[0]);
    $(selector).value = ""; // so that the same file can be chosen again
  });
}

onFile("#file", upload);
onFile("#code-file", loadCode);
$("#fit-start").addEventListener("click", startFit);
$("#fit-stop").addEventListener("click", () => state.fitting?.abort());
$("#problem button").addEventListener("click", () => { $("#problem").hidden = true; });

addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer.files[0];
  if (file?.name.endsWith(".json")) loadCode(file);
  else if (model.encodes) upload(file);
  else if (file) problem(new Error("This export has no encoder: it cannot read the code of a picture."));
});

// The page as the model has it.
document.title = `${model.name} · explore`;
$("#name").textContent = model.name;
$("#subtitle").textContent = model.subtitle;
$("#notes").textContent = model.notes.join(" · ");
$("#c-seed").hidden = !model.c_dim;
$("#s-seed").hidden = !model.s_dim && !model.labels.length;
$("#c-seed").title = model.codes === "posterior" ? "A code of the aggregated posterior" : "A code of N(0, I)";
$("#s-seed").title = "A vector of N(0, I)";
$("#upload").hidden = !model.encodes;
$("#no-upload").hidden = model.encodes;
$("#no-upload").textContent = "This export has no encoder: it cannot read the code of a picture of yours.";
$("#with-c-label").hidden = !model.s_dim;
if (!model.s_dim) $("#fit-start").textContent = "Fit c";
if (model.resolution <= 128) $("#pictures").classList.add("pixels");
document.querySelectorAll("#decoding, #picture").forEach((figure) => figure.classList.add("pixels"));
if (!model.encodes && !(model.generates && model.decodes)) $(".figures").classList.add("alone");
change(await getJson("api/seed/0").then(({ s, c }) => ({ s, c, s_seed: 0, c_seed: 0 })));
