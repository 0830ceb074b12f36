// A row for each latent: its name, a slider, its number, its KL.

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Row {
  constructor(slider, model, largest, moved, renamed) {
    const { latent, kl } = slider, { limit, longest_name: maxLength } = model;
    this.slider = slider;
    this.id = element("span", { className: "id", textContent: latent });
    this.name = element("input", { className: "name", value: slider.name, placeholder: "name it", maxLength, spellcheck: false });
    this.name.setAttribute("aria-label", `Name of ${latent}`);
    this.range = element("input", { type: "range", min: -limit, max: limit, step: 0.01 });
    this.number = element("input", { type: "number", step: 0.1, min: -100, max: 100 });
    const bar = element("i"), known = kl !== null;
    if (known) bar.style.width = `${(100 * kl) / largest}%`;
    const klCell = element("span", { className: "kl", title: known ? `KL ${kl.toFixed(3)} nats` : "" },
      known ? [`${kl.toFixed(2)}`, bar] : []);
    this.node = element("div", { className: "row" }, [this.id, this.name, this.range, this.number, klCell]);
    this.range.addEventListener("input", () => moved(slider, this.range.valueAsNumber));
    this.range.addEventListener("dblclick", () => moved(slider, slider.vector === "c" ? model.c_mean[slider.place] : 0));
    this.number.addEventListener("change", () => {
      if (!Number.isNaN(this.number.valueAsNumber)) moved(slider, this.number.valueAsNumber);
    });
    this.name.addEventListener("change", () => renamed(slider, this.name.value, this));
    this.name.addEventListener("keydown", (event) => { if (event.key === "Enter") this.name.blur(); });
    this.label();
  }

  label() {
    const spoken = this.name.value ? `${this.name.value} (${this.slider.latent})` : this.slider.latent;
    this.range.setAttribute("aria-label", spoken);
    this.number.setAttribute("aria-label", `Number of ${spoken}`);
  }

  show(value) {
    this.range.value = value;
    if (Number(this.number.value) !== value) this.number.value = (Math.abs(value) < 0.005 ? 0 : value).toFixed(2);
  }
}

// Build all rows. moved(slider, value) and renamed(slider, name, row) are called for what the user does.
export function buildSliders(model, moved, renamed) {
  const largest = Math.max(...model.sliders.map((slider) => slider.kl ?? 0)) || 1;
  const rows = model.sliders.map((slider) => new Row(slider, model, largest, moved, renamed));
  const place = (selector, chosen) => document.querySelector(selector).append(...chosen.map((row) => row.node));
  const known = model.sliders.some((slider) => slider.kl !== null);
  const head = ["", "name", "", "value", known ? "KL, nats" : ""].map((text) => element("span", { textContent: text }));
  if (rows.length) document.querySelector("#sliders").append(element("div", { className: "row head" }, head));
  place("#sliders", rows.filter((row) => !row.slider.collapsed));
  const collapsed = rows.filter((row) => row.slider.collapsed);
  place("#collapsed-sliders", collapsed);
  document.querySelector("#collapsed").hidden = collapsed.length === 0;
  document.querySelector("#collapsed").open = collapsed.length === rows.length;
  document.querySelector("#collapsed summary").textContent =
    `${collapsed.length} collapsed ${collapsed.length === 1 ? "latent" : "latents"}, with a KL below 0.01 nats`;
  document.querySelector("#order").textContent = model.order;
  return rows;
}
